"""What every artefact is made from: manifests, digests, whole-or-nothing writing."""
