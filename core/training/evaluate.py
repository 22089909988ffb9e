"""Measure the embedded model: bits per byte of held-out text, and how many of the words that it writes are words.

python core/training/evaluate.py core/jackfield/embedded
"""

import argparse
import lzma
import math
import platform
import random
from pathlib import Path

import chat
import corpus
import installation
import torch
from prose import words
from safetensors import safe_open
from tokenizer import END_OF_TEXT
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

MAX_NEW = 120  # tokens an answer
WANTED = 0.95  # share of known words
SAMPLINGS: dict[str, dict[str, bool | float]] = {
    "greedy": {"do_sample": False},
    "temperature 0.7": {"do_sample": True, "temperature": 0.7, "top_p": 1.0, "top_k": 0},
}
FREE = (
    "Explain recursion to a child.",
    "What is the difference between a list and a tuple?",
    "How do I read a file line by line?",
    "Write a haiku about the sea.",
    "Why is my program slow?",
    "What is an exception and when should I catch it?",
    "Summarise the history of computing in three sentences.",
    "How do I sort a dictionary by value?",
    "List five colours.",
    "Continue: Once upon a time",
)


def main() -> None:
    options = _options()
    torch.set_num_threads(options.threads)
    tokenizer = AutoTokenizer.from_pretrained(options.folder, padding_side="left")
    model = AutoModelForCausalLM.from_pretrained(options.folder, dtype=torch.float32).eval()
    seed = trained_with(options.folder / "model.safetensors")
    torch.manual_seed(seed)
    split = corpus.split(installation.documents(), seed)
    report_held_out(model, tokenizer, split)
    known = corpus.vocabulary(split.train) | {word for text in chat.fixed_answers() for word in words(text)}
    prompts = questions(split, random.Random(seed))
    shares = []
    for name, sampling in SAMPLINGS.items():
        answers = reply(model, tokenizer, prompts, sampling)
        print(f"\n{name}, {len(prompts)} prompts:")
        shares.append(report_words(answers, known))
        for prompt, answer in list(zip(prompts, answers, strict=True))[:: len(prompts) // options.samples]:
            print(f"  > {prompt}\n    " + answer.replace("\n", "\n    "))
    if min(shares) < WANTED:
        raise SystemExit(f"Wanted {WANTED:.0%} known words, found {min(shares):.2%}. Train for longer.")


def trained_with(weights: Path) -> int:
    """The seed that decided the split; only the same Python has the same text, and so the same held-out documents."""
    with safe_open(weights, framework="pt") as file:
        about = file.metadata()
    if about["python"] != platform.python_version():
        raise SystemExit(f"Wanted Python {about['python']}, whose text was split, found {platform.python_version()}.")
    return int(about["seed"])


def report_held_out(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, split: corpus.Corpus) -> None:
    texts = [document.text() for document in split.held_out]
    size = sum(len(text.encode()) for text in texts)
    bits = sum(nats(model, tokenizer, text) for text in texts) / math.log(2)
    print(f"held out: {len(texts)} documents, {size:,} bytes: {bits / size:.3f} bits/byte")
    print(f"the same bytes by xz, after the training text: {xz_bits(split) / size:.3f} bits/byte")


def report_words(answers: list[str], known: set[str]) -> float:
    """Print and return the share of the written words that the training text has."""
    written = [word for answer in answers for word in words(answer)]
    unknown = [word for word in written if word not in known]
    share = 1 - len(unknown) / len(written)
    print(f"{len(written):,} words, {share:.2%} known, {len(unknown)} not: {', '.join(sorted(set(unknown)))}")
    return share


def nats(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, text: str) -> float:
    """The negative log-likelihood of a text; every token is predicted once, in windows as long as the model can see."""
    ids = torch.tensor(tokenizer(END_OF_TEXT + text, verbose=False)["input_ids"])  # [tokens]
    total, window = 0.0, model.config.max_position_embeddings
    for start in range(0, len(ids) - 1, window):
        part = ids[start : start + window + 1]
        with torch.no_grad():
            logits = model(input_ids=part[None, :-1]).logits[0]  # [tokens, vocab]
        total += torch.nn.functional.cross_entropy(logits, part[1:], reduction="sum").item()
    return total


def xz_bits(split: corpus.Corpus) -> int:
    """What a general compressor adds for the held-out text after the training text: a yardstick for the model."""
    before, after = ("\n\n".join(document.text() for document in part).encode() for part in split)
    return 8 * (len(lzma.compress(before + after, preset=9)) - len(lzma.compress(before, preset=9)))


def questions(split: corpus.Corpus, draw: random.Random) -> list[str]:
    """150 prompts: subjects of training and held-out text, small talk, off topic, and some of no trained form."""
    known, unseen = chat.subjects(split.train), chat.subjects(split.held_out)
    turns = [chat.ask(subject, draw) for subject in (*draw.sample(known, 80), *draw.sample(unseen, 25))]
    turns += [chat.small_talk(draw) for _ in range(20)] + [chat.off_topic(draw) for _ in range(15)]
    return [turn[0]["content"] for turn in turns] + list(FREE)


def reply(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, prompts: list[str], sampling: dict[str, bool | float]
) -> list[str]:
    """One answer to each prompt."""
    talks = [[{"role": "user", "content": prompt}] for prompt in prompts]
    inputs = tokenizer.apply_chat_template(
        talks, add_generation_prompt=True, padding=True, return_tensors="pt", return_dict=True
    )
    ids: Tensor = model.generate(**inputs, max_new_tokens=MAX_NEW, **sampling)  # [prompts, tokens]
    return tokenizer.batch_decode(ids[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="the model")
    parser.add_argument("--samples", type=int, default=6, help="answers to print, for each kind of sampling")
    parser.add_argument("--threads", type=int, default=1, help="processor cores to use")
    return parser.parse_args()


if __name__ == "__main__":
    main()
