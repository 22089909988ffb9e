"""How each engine is built and asked. Runs in that engine's own environment: only the standard library is certain.

`run` gets requests all at once, answers greedily without regard to end tokens, and returns the answers' lengths with
the seconds that the engine's own tool measured (None: let the caller's clock count). `stream` gets requests that arrive
one after another, and returns when each token came; an engine that cannot raises NotImplementedError with the reason.
`settings` is told in the result; its `kv_bits` are those of a number in the cache. Servers are in `servers.py`.
"""

from __future__ import annotations

import itertools
import json
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from peers.servers import Answer, Died, Options, Request, jackfield_variables
from peers.streams import Arrival, Stream

BATCH_TRIES = 5  # llama-batched-bench now and then ends before its last line is written
NO_REPACK = {"llama-bench": ("--repack", "0"), "llama-batched-bench": ("--no-repack",)}


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
        self.settings |= {"kv_bits": 16, **jackfield_variables()}

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
        self.settings = {
            "dtype": "bfloat16",
            "attention": "sdpa",
            "batch": "equal lengths together, others by 8",
            "prefill_chunk_size": "2048 for one stream",
            "kv_bits": 16,
        }

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

    def stream(self, arrivals: Sequence[Arrival]) -> list[Stream]:
        """One alone, its prompt in chunks: a mask of all of it at once would be as large as its length squared."""
        if len(arrivals) > 1:
            raise NotImplementedError("generate answers static batches: who comes later has none to join")
        ((_, ids, count),) = arrivals
        clock = EventClock()
        with self._torch.inference_mode():
            self._model.generate(
                self._torch.tensor([ids]),
                max_new_tokens=count,
                min_new_tokens=count,
                do_sample=False,
                streamer=clock,
                prefill_chunk_size=2048,
            )
        return [Stream(clock.events[1:], len(clock.events) - 1)]

    def close(self) -> None:
        pass


class EventClock:
    """A streamer of transformers': the instants of what it is given, the prompt first."""

    def __init__(self) -> None:
        self._start = time.perf_counter()
        self.events: list[float] = []

    def put(self, value: Any) -> None:
        self.events.append(time.perf_counter() - self._start)

    def end(self) -> None:
        pass


class OpenVino:
    """The continuous batching pipeline of OpenVINO GenAI. The precision of arithmetic is its own choice."""

    def __init__(self, model: str, options: Options) -> None:
        import numpy as np
        import openvino as ov
        import openvino_genai as genai

        self._numpy, self._ov, self._genai = np, ov, genai
        scheduler = genai.SchedulerConfig()
        scheduler.cache_size = -(-options["kv_bytes"] // 2**30)  # GiB
        scheduler.max_num_batched_tokens = 2048
        scheduler.max_num_seqs = options["sequences"]
        scheduler.dynamic_split_fuse = True  # prompts in the steps of running streams
        scheduler.enable_prefix_caching = options["own"]["share_prefixes"]
        properties = {"INFERENCE_NUM_THREADS": options["threads"], "PERFORMANCE_HINT": "LATENCY"}
        properties["KV_CACHE_PRECISION"] = options["own"]["kv"]
        self._pipeline = genai.ContinuousBatchingPipeline(model, scheduler, "CPU", properties)
        kv_bits = {"f16": 16, "u8": 8}[options["own"]["kv"]]
        self.settings = {**properties, "scheduler": " ".join(scheduler.to_string().split()), "kv_bits": kv_bits}
        self._numbers = itertools.count()

    def run(self, requests: Sequence[Request]) -> Answer:
        configs = [self._config(count) for _, count in requests]
        prompts = [self._tensor(ids) for ids, _ in requests]
        return [len(result.m_generation_ids[0]) for result in self._pipeline.generate(prompts, configs)], None

    def stream(self, arrivals: Sequence[Arrival]) -> list[Stream]:
        """Requests join between steps, as in a server; nothing lies between the pipeline and who reads."""
        waiting = [
            (at, self._tensor(ids), self._config(count), index) for index, (at, ids, count) in enumerate(arrivals)
        ]
        waiting.sort(key=lambda each: each[0])
        events: list[list[float]] = [[] for _ in arrivals]
        tokens = [0] * len(arrivals)
        reading: dict[int, Any] = {}
        start = time.perf_counter()
        while waiting or self._pipeline.has_non_finished_requests():
            while waiting and waiting[0][0] <= time.perf_counter() - start:
                _, ids, config, index = waiting.pop(0)
                reading[index] = self._pipeline.add_request(next(self._numbers), ids, config)
            if not self._pipeline.has_non_finished_requests():
                time.sleep(max(0.0, start + waiting[0][0] - time.perf_counter()))
                continue
            self._pipeline.step()
            now = time.perf_counter() - start
            for index, handle in list(reading.items()):
                while handle.can_read():
                    events[index].append(now)
                    tokens[index] += sum(len(output.generated_ids) for output in handle.read().values())
                if tokens[index] >= arrivals[index].count:
                    del reading[index]
        return [Stream(*each) for each in zip(events, tokens, strict=True)]

    def _config(self, count: int) -> Any:
        config = self._genai.GenerationConfig()
        config.max_new_tokens, config.ignore_eos, config.do_sample = count, True, False
        return config

    def _tensor(self, ids: list[int]) -> Any:
        return self._ov.Tensor(self._numpy.array([ids], dtype=self._numpy.int64))

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
        self.settings["kv_bits"] = 16

    def run(self, requests: Sequence[Request]) -> Answer:
        samplings = [
            self._sampling(temperature=0, max_tokens=count, ignore_eos=True, detokenize=False) for _, count in requests
        ]
        outputs = self._llm.generate([{"prompt_token_ids": ids} for ids, _ in requests], samplings, use_tqdm=False)
        return [len(output.outputs[0].token_ids) for output in outputs], None

    def close(self) -> None:
        pass


class LlamaBench:
    """llama.cpp's own measuring programs: no server and no sampling in the time, random tokens of the same lengths.

    They load the model each time; that does not count. Where a signal ends one, weights stay as the file has them, as
    those of `servers.LlamaServer` do.
    """

    def __init__(self, model: str, options: Options) -> None:
        self._model, self._programs = model, Path(options["programs"])
        self._threads = str(options["threads"])
        self._repacks = True
        self.settings = {"flags": f"-t {self._threads}"}

    def run(self, requests: Sequence[Request]) -> Answer:
        sizes = {(len(ids), count) for ids, count in requests}
        if len(sizes) > 1 or len({tuple(ids[:64]) for ids, _ in requests}) < len(requests):
            raise NotImplementedError("measures equal requests that share nothing")
        ((prompt, output),) = sizes
        seconds = self._single(prompt, output) if len(requests) == 1 else self._batch(len(requests), prompt, output)
        return [output] * len(requests), seconds

    def stream(self, arrivals: Sequence[Arrival]) -> list[Stream]:
        """Refused."""
        raise NotImplementedError("llama-bench has no streams; llama.cpp's server has")

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
        if not self._repacks:
            return self._printed(program, *flags, *NO_REPACK[program])
        try:
            return self._printed(program, *flags)
        except Died as died:
            if died.status >= 0:
                raise
            self._repacks = False
            self.settings |= {"not repacked": str(died)}
            return self._output(program, *flags)

    def _printed(self, program: str, *flags: str) -> str:
        command = [str(self._programs / program), "-m", self._model, "-t", self._threads, *flags]
        done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True, check=False)
        if done.returncode:
            raise Died(program, done.returncode)
        return done.stdout

    def close(self) -> None:
        pass
