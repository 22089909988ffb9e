"""The vendor's attention kernel for prompts, where its library is installed and asked for.

AWS Neuron documentation, "Attention CTE Kernel API Reference": `attention_cte` of the NKI Library, which comes with
neuronx-cc under the name `nkilib`; "NKI FAQ": NKI runs on Trainium2 and newer.
"""

from __future__ import annotations

import importlib
import os
from typing import Any

MODULE = "nkilib.core.attention.attention_cte"
SWITCH = "JACKFIELD_NEURON_NKI"
"""Is 1 where the kernel is to be used: from here it cannot be told whether the device is one that runs it."""

MOST_DIM = 128  # of a head
DTYPE = "bfloat16"  # what it multiplies in, whatever it is given


def missing() -> str | None:
    """Why there is no kernel, or None."""
    if os.environ.get(SWITCH) != "1":
        return f"the NKI library's kernel is taken on Trainium2 and newer alone, and where {SWITCH} is 1"
    try:
        importlib.import_module(MODULE)
    except ImportError as error:
        return f"{MODULE} cannot be imported: {str(error).strip().splitlines()[0]}"
    return None


def kernel() -> Any:
    """The kernel, to be launched on as many physical cores as one logical core has.

    "Using Logical NeuronCores (LNC) with NKI": the number in brackets must be that of the whole graph, which is 2 from
    Trainium2 on unless NEURON_LOGICAL_NC_CONFIG says otherwise.
    """
    cores = int(os.environ.get("NEURON_LOGICAL_NC_CONFIG", "2"))
    return importlib.import_module(MODULE).attention_cte[cores]
