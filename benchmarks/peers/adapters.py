"""How each engine is built and asked. Runs in that engine's own environment: only the standard library is certain.

`run` gets requests all at once, answers greedily without regard to end tokens, and returns the answers' lengths with
the seconds that the engine's own tool measured (None: let the caller's clock count). `settings` is told in the result.
"""

from __future__ import annotations

import http.client
import json
import socket
import subprocess
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

Request = tuple[list[int], int]
Answer = tuple[list[int], float | None]
Options = dict[str, Any]
BATCH_TRIES = 5  # llama-batched-bench now and then ends before its last line is written


class Jackfield:
    """`LLM` in this process, as it is offline."""

    def __init__(self, model: str, options: Options) -> None:
        from jackfield import LLM, SamplingParams

        self._sampling = SamplingParams
        self.settings = {
            **options["own"],
            "max_model_len": options["context"],
            "max_num_seqs": options["sequences"],
            "kv_cache_memory": options["kv_bytes"],
        }
        self._llm = LLM(model, **self.settings)

    def run(self, requests: Sequence[Request]) -> Answer:
        samplings = [
            self._sampling(temperature=0, max_tokens=count, ignore_eos=True, detokenize=False) for _, count in requests
        ]
        outputs = self._llm.generate([ids for ids, _ in requests], samplings, use_tqdm=False)
        return [len(output.outputs[0].token_ids) for output in outputs], None

    def close(self) -> None:
        self._llm.engine.close()


class Transformers:
    """`generate` in static batches: all at once where they are equally long, otherwise 8, padded on the left."""

    def __init__(self, model: str, options: Options) -> None:
        import torch
        from transformers import AutoModelForCausalLM

        torch.set_num_threads(options["threads"])
        self._torch = torch
        self._model = AutoModelForCausalLM.from_pretrained(
            model, dtype=torch.bfloat16, attn_implementation="sdpa"
        ).eval()
        self._model.generation_config.eos_token_id, self._model.generation_config.pad_token_id = None, 0
        self.settings = {"dtype": "bfloat16", "attention": "sdpa", "batch": "equal lengths together, others by 8"}

    def run(self, requests: Sequence[Request]) -> Answer:
        size = len(requests) if len({(len(ids), count) for ids, count in requests}) == 1 else 8
        for first in range(0, len(requests), size):
            self._batch(requests[first : first + size])
        return [count for _, count in requests], None  # longer ones are cut: the padding of a static batch

    def _batch(self, requests: Sequence[Request]) -> None:
        torch = self._torch
        longest, most = max(len(ids) for ids, _ in requests), max(count for _, count in requests)
        ids = torch.zeros(len(requests), longest, dtype=torch.int64)
        mask = torch.zeros_like(ids)
        for row, (tokens, _) in enumerate(requests):
            ids[row, longest - len(tokens) :] = torch.tensor(tokens)
            mask[row, longest - len(tokens) :] = 1
        with torch.inference_mode():
            out = self._model.generate(
                ids, attention_mask=mask, max_new_tokens=most, min_new_tokens=most, do_sample=False
            )
        if out.shape[1] != longest + most:
            raise RuntimeError(f"wanted {most} tokens; got {out.shape[1] - longest}")

    def close(self) -> None:
        pass


class OpenVino:
    """The continuous batching pipeline of OpenVINO GenAI. The precision of arithmetic is its own choice."""

    def __init__(self, model: str, options: Options) -> None:
        import numpy as np
        import openvino as ov
        import openvino_genai as genai

        self._numpy, self._ov, self._genai = np, ov, genai
        scheduler = genai.SchedulerConfig()
        scheduler.cache_size = max(1, options["kv_bytes"] // 2**30)  # GiB
        scheduler.max_num_batched_tokens = 2048
        scheduler.max_num_seqs = options["sequences"]
        scheduler.enable_prefix_caching = options["own"]["share_prefixes"]
        properties = {"INFERENCE_NUM_THREADS": options["threads"]}
        self._pipeline = genai.ContinuousBatchingPipeline(model, scheduler, "CPU", properties)
        self.settings = {**properties, "scheduler": scheduler.to_string()}

    def run(self, requests: Sequence[Request]) -> Answer:
        configs = []
        for _, count in requests:
            config = self._genai.GenerationConfig()
            config.max_new_tokens, config.ignore_eos, config.do_sample = count, True, False
            configs.append(config)
        prompts = [self._ov.Tensor(self._numpy.array([ids], dtype=self._numpy.int64)) for ids, _ in requests]
        return [len(result.m_generation_ids[0]) for result in self._pipeline.generate(prompts, configs)], None

    def close(self) -> None:
        pass


class Vllm:
    """`vllm.LLM`."""

    def __init__(self, model: str, options: Options) -> None:
        from vllm import LLM, SamplingParams

        self._sampling = SamplingParams
        self.settings = {
            "dtype": "bfloat16",
            "max_model_len": options["context"],
            "max_num_seqs": options["sequences"],
            "disable_log_stats": True,
        }
        self._llm = LLM(model=model, seed=0, **self.settings)

    def run(self, requests: Sequence[Request]) -> Answer:
        samplings = [
            self._sampling(temperature=0, max_tokens=count, ignore_eos=True, detokenize=False) for _, count in requests
        ]
        outputs = self._llm.generate([{"prompt_token_ids": ids} for ids, _ in requests], samplings, use_tqdm=False)
        return [len(output.outputs[0].token_ids) for output in outputs], None

    def close(self) -> None:
        pass


class LlamaServer:
    """llama-server over loopback, a slot a sequence, one pool of K/V for all; samples by its cheapest greedy chain."""

    def __init__(self, model: str, options: Options) -> None:
        self._port = free_port()
        threads = str(options["threads"])
        flags = [
            "-t",
            threads,
            "-tb",
            threads,
            "-np",
            str(options["sequences"]),
            "-kvu",
            "-c",
            str(options["pool_tokens"]),
        ]
        flags += ["-b", "2048", "-ub", "512", "--cache-ram", "2048" if options["own"]["share_prefixes"] else "0"]
        self.settings = {"flags": " ".join(flags)}
        command = [str(Path(options["programs"]) / "llama-server"), "-m", model, *flags]
        self._server = subprocess.Popen([*command, "--host", "127.0.0.1", "--port", str(self._port)])
        self._clients = ThreadPoolExecutor(options["sequences"])
        while not self._is_ready():
            if self._server.poll() is not None:
                raise RuntimeError(f"llama-server ended with status {self._server.returncode}")
            time.sleep(0.02)

    def _is_ready(self) -> bool:
        try:
            return self._ask("GET", "/health", None)[0] == 200
        except OSError:
            return False

    def run(self, requests: Sequence[Request]) -> Answer:
        return list(self._clients.map(self._complete, requests)), None

    def _complete(self, request: Request) -> int:
        ids, count = request
        body = {"prompt": ids, "n_predict": count, "ignore_eos": True, "cache_prompt": True}
        body |= {"temperature": 0, "samplers": ["top_k"], "top_k": 1}
        status, answer = self._ask("POST", "/completion", json.dumps(body))
        if status != 200:
            raise RuntimeError(answer[:300])
        return int(json.loads(answer)["tokens_predicted"])

    def _ask(self, method: str, path: str, body: str | None) -> tuple[int, str]:
        connection = http.client.HTTPConnection("127.0.0.1", self._port)
        try:
            connection.request(method, path, body, {"Content-Type": "application/json"})
            response = connection.getresponse()
            return response.status, response.read().decode()
        finally:
            connection.close()

    def close(self) -> None:
        self._server.terminate()
        self._server.wait()


class LlamaBench:
    """llama.cpp's own measuring programs: no server and no sampling in the time, random tokens of the same lengths.

    They load the model each time; that does not count.
    """

    def __init__(self, model: str, options: Options) -> None:
        self._model, self._programs = model, Path(options["programs"])
        self._threads = str(options["threads"])
        self.settings = {"flags": f"-t {self._threads}"}

    def run(self, requests: Sequence[Request]) -> Answer:
        sizes = {(len(ids), count) for ids, count in requests}
        if len(sizes) > 1 or len({tuple(ids[:64]) for ids, _ in requests}) < len(requests):
            raise NotImplementedError("measures equal requests that share nothing")
        ((prompt, output),) = sizes
        seconds = self._single(prompt, output) if len(requests) == 1 else self._batch(len(requests), prompt, output)
        return [output] * len(requests), seconds

    def _single(self, prompt: int, output: int) -> float:
        work = (
            ["-p", str(prompt), "-n", "0"] if output == 1 else ["-p", "0", "-n", "0", "-pg", f"{prompt},{output - 1}"]
        )
        (record,) = json.loads(self._output("llama-bench", "-r", "1", "-o", "json", *work))
        return float(record["avg_ns"]) * 1e-9

    def _batch(self, count: int, prompt: int, output: int) -> float:
        room = count * (prompt + output)
        sizes = ["-npp", str(prompt), "-ntg", str(output), "-npl", str(count), "-c", str(room)]
        for _ in range(BATCH_TRIES):
            text = self._output("llama-batched-bench", "--output-format", "jsonl", *sizes)
            records = [json.loads(line) for line in text.splitlines() if line.startswith("{")]
            if records:
                return float(records[-1]["t"])
        raise RuntimeError(f"llama-batched-bench printed nothing in {BATCH_TRIES} runs")

    def _output(self, program: str, *flags: str) -> str:
        command = [str(self._programs / program), "-m", self._model, "-t", self._threads, *flags]
        done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True, check=False)
        if done.returncode:
            raise RuntimeError(f"{program} ended with status {done.returncode}")
        return done.stdout

    def close(self) -> None:
        pass


def free_port() -> int:
    """One that nobody listened on a moment ago."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])
