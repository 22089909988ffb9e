"""Make the embedded model: read the corpus, learn the tokenizer, train for some minutes, write the shipped folder.

python core/training/train.py --out core/jackfield/embedded --minutes 50 --seed 0
"""

import argparse
import json
import math
import platform
import random
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import chat
import corpus
import installation
import safetensors.torch
import tokenizer
import torch
from batches import Batches
from muon import Muon
from torch import Tensor
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM

VOCAB_SIZE = 2560
MAX_LEN = 2048
BATCH = 2048  # tokens a step
MATRIX_RATE, OTHER_RATE = 0.02, 3e-3  # peaks: Muon takes the matrices in the layers, Adam the embedding and the norms
WARM_UP = 0.02  # share of the time
ROPE_THETA = 10000.0
SAMPLING = {"do_sample": True, "temperature": 0.7, "top_p": 0.95}  # what clients get who ask for nothing else
SAVE_EVERY = 600  # seconds


def main() -> None:
    options = _options()
    torch.set_num_threads(options.threads)
    torch.manual_seed(options.seed)
    draw = random.Random(options.seed)
    documents = corpus.split(installation.documents(), options.seed).train
    talks = chat.conversations(chat.subjects(documents), draw)
    spoken = (message["content"] for talk in talks for message in talk)
    trained = tokenizer.train([*(document.text() for document in documents), *spoken], VOCAB_SIZE)
    options.out.mkdir(parents=True, exist_ok=True)
    tokenizer.save(trained, MAX_LEN, options.out)
    model = LlamaForCausalLM(shape())
    print(f"{len(documents)} documents, {model.num_parameters():,} parameters", flush=True)
    stream = Batches(tokenizer.wrap(trained, MAX_LEN), documents, BATCH).draw(draw)
    about = {"python": platform.python_version(), "seed": str(options.seed), "minutes": str(options.minutes)}
    learn(model, stream, 60 * options.minutes, lambda: save(model, options.out, about))


def shape() -> LlamaConfig:
    """A Llama of three million parameters; heads of 64, because every attention kernel takes them."""
    return LlamaConfig(
        vocab_size=VOCAB_SIZE,
        hidden_size=256,
        intermediate_size=512,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=64,
        max_position_embeddings=MAX_LEN,
        rope_parameters={"rope_type": "default", "rope_theta": ROPE_THETA},
        tie_word_embeddings=True,
        bos_token_id=0,
        eos_token_id=0,
        pad_token_id=0,
    )


def learn(model: LlamaForCausalLM, stream: Iterator[Tensor], seconds: float, save: Callable[[], None]) -> None:
    """Train for so many seconds of wall time, and save now and then and at the end."""
    matrices = [parameter for parameter in model.model.layers.parameters() if parameter.ndim == 2]
    others = [parameter for parameter in model.parameters() if parameter.ndim == 1 or len(parameter) == VOCAB_SIZE]
    peaks = {
        Muon(matrices, MATRIX_RATE): MATRIX_RATE,
        torch.optim.Adam(others, OTHER_RATE, betas=(0.9, 0.95), fused=True): OTHER_RATE,
    }
    start = saved = time.monotonic()
    passed, mean = 0.0, math.log(VOCAB_SIZE)  # seconds; nats a token, smoothed
    for step, batch in enumerate(stream, 1):
        loss = model(input_ids=batch, labels=batch).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer, peak in peaks.items():
            optimizer.param_groups[0]["lr"] = peak * rate(passed / seconds)
            optimizer.step()
            optimizer.zero_grad()
        passed = time.monotonic() - start
        mean += (loss.item() - mean) / min(step, 50)
        if step % 20 == 0 or passed >= seconds:
            speed, left = step * BATCH / passed, max(0.0, seconds - passed)
            print(f"step {step:5}  loss {mean:.3f}  {speed:,.0f} tokens/s  {left:,.0f} s left", flush=True)
        if passed >= seconds or time.monotonic() - saved >= SAVE_EVERY:
            save()
            saved = time.monotonic()
        if passed >= seconds:
            return


def rate(progress: float) -> float:
    """The learning rate as a share of its peak, at a share of the time: a warm-up, then a cosine to zero."""
    if progress < WARM_UP:
        return (progress + 1e-3) / WARM_UP
    return 0.5 + 0.5 * math.cos(math.pi * min(1.0, progress))


def save(model: LlamaForCausalLM, folder: Path, about: dict[str, str]) -> None:
    """Write the weights in bfloat16, how they were made in the same file, config.json and generation_config.json."""
    weights = {name: parameter.detach().to(torch.bfloat16) for name, parameter in model.named_parameters()}
    safetensors.torch.save_file(weights, folder / "model.safetensors", metadata={"format": "pt"} | about)
    (folder / "model.safetensors").chmod(0o644)
    settings = model.config.to_diff_dict() | {"architectures": ["LlamaForCausalLM"], "dtype": "bfloat16"}
    settings |= {"torch_dtype": "bfloat16", "rope_theta": ROPE_THETA}  # the names that transformers 4 knows
    (folder / "config.json").write_text(json.dumps(settings, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    stops = [tokenizer.SPECIAL.index(tokenizer.END), tokenizer.SPECIAL.index(tokenizer.END_OF_TEXT)]
    GenerationConfig(eos_token_id=stops, bos_token_id=0, pad_token_id=0, **SAMPLING).save_pretrained(folder)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder to write")
    parser.add_argument("--minutes", type=float, required=True, help="wall time to train for, without the preparation")
    parser.add_argument("--seed", type=int, default=0, help="split, initial weights and order of the text")
    parser.add_argument("--threads", type=int, default=1, help="processor cores to use")
    return parser.parse_args()


if __name__ == "__main__":
    main()
