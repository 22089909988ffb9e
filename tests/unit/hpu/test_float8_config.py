"""The file that QUANT_CONFIG names."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from jackfield_hpu.float8.config import QuantConfig, quant_config

QUANTIZE = {
    "mode": "QUANTIZE",
    "observer": "maxabs",
    "scale_method": "ACT_MAXABS_HW_WEIGHTS_PCS_MAXABS_POW2",
    "blocklist": {"types": [], "names": ["lm_head"]},
    "allowlist": {"types": [], "names": []},
    "dump_stats_path": "/out/inc",
}


@pytest.fixture
def config(tmp_path):
    def written(fields):
        path = tmp_path / "quant.json"
        path.write_text(json.dumps(fields))
        return quant_config({"QUANT_CONFIG": str(path)})

    return written


def test_nothing_is_asked_for_without_the_variable():
    assert quant_config({}) is None
    assert quant_config({"QUANT_CONFIG": ""}) is None


def test_the_documentation_s_example_is_read_whatever_its_capitals(config):
    read = config(QUANTIZE)
    assert read.scale_method == "act_maxabs_hw_weights_pcs_maxabs_pow2"
    assert read.measurements == Path("/out/inc_hooks_maxabs.json")
    assert config({"mode": "measure"}).mode == "MEASURE"


def test_layers_are_left_out_by_parts_of_their_names(config):
    assert config(QUANTIZE).excludes("lm_head") == "QUANT_CONFIG's blocklist holds it"
    assert config(QUANTIZE).excludes("model.layers.0.mlp.down_proj") is None
    some = config({"allowlist": {"names": ["mlp"]}})
    assert some.excludes("model.layers.0.mlp.down_proj") is None
    assert some.excludes("model.layers.0.self_attn.o_proj") == "QUANT_CONFIG's allowlist does not hold it"
    assert config({"blocklist": {"types": ["Linear"]}}).excludes("lm_head") is not None


@pytest.mark.parametrize(
    ("fields", "wrong"),
    [
        ({"mod": "MEASURE"}, "unknown field `mod`"),
        ({"mode": "CALIBRATE"}, "Invalid enum value 'CALIBRATE'"),
        ({"observer": "save"}, "Invalid enum value 'save'"),
        ({"measure_exclude": "none"}, "Invalid enum value 'NONE'"),
        ({"fp8_config": "E5M2"}, "Invalid enum value 'E5M2'"),
        ({"blocklist": {"types": ["Softmax"]}}, "Invalid enum value 'Softmax'"),
    ],
)
def test_what_is_not_served_is_an_error_that_names_it(config, fields, wrong):
    with pytest.raises(ValueError, match=rf"QUANT_CONFIG=.*quant.json: .*{wrong}"):
        config(fields)


def test_a_file_that_is_not_there_is_named():
    with pytest.raises(ValueError, match=r"QUANT_CONFIG=/nowhere.json: .*No such file"):
        quant_config({"QUANT_CONFIG": "/nowhere.json"})


def test_defaults_are_the_documentation_s():
    assert (QuantConfig().mode, QuantConfig().scale_format) == ("QUANTIZE", "scalar")
    assert (QuantConfig().scale_params.input_backoff, QuantConfig().scale_params.weight_backoff) == (0.25, 0.5)
