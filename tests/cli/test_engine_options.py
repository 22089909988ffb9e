"""Options become the engine's struct; nothing is lost, nothing is invented."""

from __future__ import annotations

import click
import pytest

from jackfield.cli import serve
from jackfield.cli.engine_options import HELPS
from jackfield.cli.options import BYTES
from jackfield.config.options import EngineOptions
from jackfield.server.options import ServerOptions


@pytest.fixture
def served(run, calls, replace_module, monkeypatch):
    """`served(*words)` gives the two structs that `jackfield serve *words` calls the server with."""
    monkeypatch.delenv("JACKFIELD_PLATFORM", raising=False)
    monkeypatch.delenv("JACKFIELD_API_KEY", raising=False)
    replace_module("jackfield.server.run", serve=calls)

    def structs(*words):
        result = run("serve", *words)
        assert result.exit_code == 0, result.output
        (args, kwargs) = calls.pop()
        assert not kwargs
        return args

    return structs


def test_without_options_the_structs_are_their_defaults(served):
    assert served() == (EngineOptions(), ServerOptions())


def test_every_field_of_the_engine_has_an_option_and_the_other_way_round():
    assert list(HELPS) == list(EngineOptions.__struct_fields__)


def test_every_field_of_the_server_has_an_option():
    assert set(serve.HELPS) == set(ServerOptions.__struct_fields__)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["folder"], {"model": "folder"}),
        (["--model", "folder"], {"model": "folder"}),
        (["folder", "--model", "folder"], {"model": "folder"}),
        (["--dtype", "bfloat16"], {"dtype": "bfloat16"}),
        (["--quantization", "int8"], {"quantization": "int8"}),
        (["--tensor-parallel-size", "2"], {"tensor_parallel_size": 2}),
        (["--max-model-len", "512"], {"max_model_len": 512}),
        (["--max-num-seqs", "7"], {"max_num_seqs": 7}),
        (["--max-num-batched-tokens", "16"], {"max_num_batched_tokens": 16}),
        (["--block-size", "32"], {"block_size": 32}),
        (["--kv-cache-memory", "2G"], {"kv_cache_memory": 2 << 30}),
        (["--memory-utilization", "0.5"], {"memory_utilization": 0.5}),
        (["--no-enable-prefix-caching"], {"enable_prefix_caching": False}),
        (["--load-format", "dummy"], {"load_format": "dummy"}),
        (["--overlap", "off"], {"overlap": "off"}),
        (["--seed", "-3"], {"seed": -3}),
        (
            ["--speculative-config", '{"method": "ngram", "num_speculative_tokens": 4}'],
            {"speculative_config": {"method": "ngram", "num_speculative_tokens": 4}},
        ),
        (["--platform", "gadget"], {"platform": "gadget"}),
    ],
)
def test_an_option_reaches_its_field(served, words, expected):
    engine, _ = served(*words)
    assert engine == EngineOptions(**expected)


def test_server_options_reach_the_server(served):
    words = ["--host", "0.0.0.0", "--port", "9", "--served-model-name", "mine", "--api-key", "k", "--max-waiting", "4"]
    _, server = served(*words)
    assert (server.host, server.port, server.api_key, server.max_waiting) == ("0.0.0.0", 9, "k", 4)
    assert server.served_model_name == "mine"


def test_the_platform_and_the_key_may_come_from_the_environment(served, monkeypatch):
    monkeypatch.setenv("JACKFIELD_PLATFORM", "gadget")
    monkeypatch.setenv("JACKFIELD_API_KEY", "secret")
    engine, server = served()
    assert (engine.platform, server.api_key) == ("gadget", "secret")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["one", "--model", "two"], "The model is given twice: 'one' and --model 'two'."),
        (["--port", "70000"], "70000 is not in the range"),
        (["--tensor-paralel-size", "2"], "--tensor-parallel-size"),  # did you mean
        (["--max-num-seqs", "many"], "'many' is not a valid integer"),
        (["--load-format", "pickle"], "'pickle' is not one of 'auto', 'safetensors', 'dummy'"),
        (["--speculative-config", "ngram"], """wanted a JSON object such as {"num": 1}; got 'ngram'"""),
        (["--kv-cache-memory", "lots"], "wanted a number of bytes such as 1048576, 512M or 2G; got 'lots'"),
    ],
)
def test_a_wrong_value_is_a_usage_error(run, words, said):
    result = run("serve", *words)
    assert result.exit_code == 2
    assert said in result.output


@pytest.mark.parametrize(
    ("text", "size"),
    [("1048576", 1 << 20), ("512M", 512 << 20), ("2g", 2 << 30), ("1.5 GiB", 3 << 29), ("64kb", 64 << 10)],
)
def test_sizes_may_have_units(text, size):
    assert BYTES.convert(text, None, None) == size


@pytest.mark.parametrize("text", ["", "-1", "2X", "G", "1e9"])
def test_other_sizes_are_refused(text):
    with pytest.raises(click.BadParameter):
        BYTES.convert(text, None, None)
