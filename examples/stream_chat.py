"""Chat with a server through OpenAI's client, word by word: python examples/stream_chat.py [URL]

Start one first: jackfield serve
"""

from __future__ import annotations

import sys

from openai import OpenAI


def main() -> None:
    url = sys.argv[1] if len(sys.argv) > 1 else "http://127.0.0.1:8000"
    client = OpenAI(base_url=f"{url}/v1", api_key="none")  # the key of --api-key, if the server has one
    model = client.models.list().data[0].id

    stream = client.chat.completions.create(
        model=model,
        messages=[{"role": "user", "content": "What does the json module do?"}],
        max_tokens=48,
        temperature=0,
        stream=True,
        stream_options={"include_usage": True},
        extra_body={"min_tokens": 4},  # fields that OpenAI does not have go here
    )
    for chunk in stream:
        for choice in chunk.choices:
            print(choice.delta.content or "", end="", flush=True)
        if chunk.usage:  # the last chunk: no choices, only counts
            print(f"\n({chunk.usage.prompt_tokens} tokens read, {chunk.usage.completion_tokens} written)")


if __name__ == "__main__":
    main()
