"""Many prompts at once, without a server: python examples/offline_batch.py [MODEL]"""

from __future__ import annotations

import sys

from jackfield import LLM, SamplingParams

PROMPTS = ["The list type", "A decorator is", "The json module"]


def main() -> None:
    llm = LLM(*sys.argv[1:2])  # a folder; the embedded model without one

    # One answer a prompt, in order; all of them share each step of the model.
    greedy = SamplingParams(temperature=0, max_tokens=24)
    for output in llm.generate(PROMPTS, greedy, use_tqdm=False):
        print(f"{output.prompt!r} -> {output.outputs[0].text!r}")

    # Sampling parameters may differ from prompt to prompt; a seed makes an answer repeatable.
    mixed = [
        greedy,
        SamplingParams(temperature=0.8, top_p=0.9, seed=7, max_tokens=24),
        SamplingParams(n=2, max_tokens=8),
    ]
    for output in llm.generate(PROMPTS, mixed, use_tqdm=False):
        print(f"{output.prompt!r} -> {[answer.text for answer in output.outputs]}")

    # A conversation goes through the model's chat template.
    (answer,) = llm.chat([{"role": "user", "content": "What is a tuple?"}], greedy, use_tqdm=False)
    print(f"chat -> {answer.outputs[0].text!r} ({answer.outputs[0].finish_reason})")


if __name__ == "__main__":
    main()
