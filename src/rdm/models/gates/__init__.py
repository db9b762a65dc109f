"""Gates on the residual units of any network: z + alpha * F(z) + beta (Neural-RDM, Eq. 1; readings R1 to R5).

    attach_gates(model)                        # nothing changes: alpha = 1, beta = 0
    optimizer = AdamW([{"params": weights}, {"params": gate_parameters(model), "lr": ...}])
    ...                                        # train
    gate_table(model)                          # what the gates learnt
    save_gates(model, "gates.safetensors")     # kilobytes, for this base only
    fold_gates(model)                          # the gates become part of the weights, where that is exact

With y = z + F(z) the unit's output, a gated unit returns y + delta * (y - z) + beta, alpha = 1 + delta. That is
bit-identical to the ungated unit at delta = beta = 0; z + alpha * (y - z) + beta is not, in floating point. Where the
parts of F(z) are at hand (adaLN-Zero's branches, a U-Net's last convolution), delta scales them instead of y - z.

A unit is gated by giving it a subclass of its own class (as torch's parametrizations do) and a submodule. The gate
belongs to the unit: a copy of the model has gates of its own, and the model's other weights keep their names.
"""

from rdm.models.gates.attach import (
    attach_gates,
    detach_gates,
    gate_parameters,
    gate_table,
    gates_of,
    residual_units,
    split_state,
)
from rdm.models.gates.fold import fold_gates
from rdm.models.gates.store import load_gates, save_gates
from rdm.params.gates import Gating

__all__ = [
    "Gating",
    "attach_gates",
    "detach_gates",
    "fold_gates",
    "gate_parameters",
    "gate_table",
    "gates_of",
    "load_gates",
    "residual_units",
    "save_gates",
    "split_state",
]
