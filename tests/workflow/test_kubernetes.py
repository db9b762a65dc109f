"""The Kubernetes profile, as far as it goes without a cluster; its storage is a server on loopback."""

import boto3
import pytest
from moto.server import ThreadedMotoServer

from tests.conftest import ROOT, snakemake
from tests.workflow.test_snakemake import planned

PROFILE = str(ROOT / "workflow" / "profiles" / "kubernetes")
BUCKET = "example-bucket"  # as in the profile


@pytest.fixture
def bucket(monkeypatch):
    """An S3 bucket, which Snakemake finds by its environment."""
    server = ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        url = "http://{}:{}".format(*server.get_host_and_port())
        for name, value in {"ENDPOINT_URL": url, "ACCESS_KEY": "key", "SECRET_KEY": "secret"}.items():
            monkeypatch.setenv(f"SNAKEMAKE_STORAGE_S3_{name}", value)
        keys = {"aws_access_key_id": "key", "aws_secret_access_key": "secret"}
        opened = boto3.resource("s3", endpoint_url=url, region_name="us-east-1", **keys).Bucket(BUCKET)
        opened.create()
        yield opened
        opened.objects.delete()  # the next server would know them
        opened.delete()
    finally:
        server.stop()


def test_the_profile_plans_the_same_jobs(bucket, tmp_path):
    """And looks into the bucket for what is there."""
    whole = planned(tmp_path, "results/table1.csv")
    assert planned(tmp_path, "results/table1.csv", "--workflow-profile", PROFILE) == whole
    bucket.put_object(Key="neural-rdm/results/data/tiny/manifest.json", Body=b"{}")
    left = planned(tmp_path, "results/table1.csv", "--workflow-profile", PROFILE)
    assert whole - left == {"data set tiny"}
    assert left < whole


def test_a_job_works_beside_the_copies_of_stored_files(bucket, tmp_path):
    """As in a pod: its own working folder, a volume, and a bucket, which holds what the rules name."""
    volume, folder = tmp_path / "volume", tmp_path / "pod"
    storage = {
        "--default-storage-provider": "s3",
        "--default-storage-prefix": f"s3://{BUCKET}/neural-rdm",
        "--local-storage-prefix": str(volume),
    }
    options = [part for option in storage.items() for part in option]
    snakemake(folder, "results/data/tiny/manifest.json", "--cores", "1", "--keep-storage-local-copies", *options)
    place = volume / "s3" / BUCKET / "neural-rdm"
    assert (place / "results" / "data" / "tiny" / "train_images.npy").is_file()
    assert not (folder / "results").exists()
    stored = {item.key for item in bucket.objects.all()}
    assert {"neural-rdm/results/data/tiny/manifest.json", "neural-rdm/logs/data/tiny.log"} <= stored
