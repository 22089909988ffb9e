"""Several answers at once within one program, as they are made: python examples/async_stream.py [MODEL]"""

from __future__ import annotations

import asyncio
import sys

from jackfield import AsyncEngineArgs, AsyncLLM, SamplingParams

PROMPTS = ["The list type", "A decorator is", "The json module"]


async def answer(llm: AsyncLLM, prompt: str) -> str:
    """Print what is new each time; return all of it."""
    text = ""
    async for output in llm.generate(prompt, SamplingParams(temperature=0, max_tokens=24)):
        now = output.outputs[0].text  # all so far
        print(f"{prompt}: +{now[len(text) :]!r}")
        text = now
    return text


async def first_words(llm: AsyncLLM, prompt: str) -> None:
    """Leaving the loop ends the request: its memory is free for others at once."""
    async for output in llm.generate(prompt, SamplingParams(max_tokens=None)):
        if len(output.outputs[0].token_ids) >= 3:
            break
    print(f"{prompt}: left after {len(output.outputs[0].token_ids)} tokens")


async def main() -> None:
    model = sys.argv[1] if len(sys.argv) > 1 else None  # a folder; None: the embedded model
    llm = AsyncLLM.from_engine_args(AsyncEngineArgs(model=model))  # the engine runs in a process of its own
    try:
        texts = await asyncio.gather(*(answer(llm, prompt) for prompt in PROMPTS))
        print(texts)
        await first_words(llm, "A generator is")
    finally:
        await llm.shutdown()


if __name__ == "__main__":
    asyncio.run(main())
