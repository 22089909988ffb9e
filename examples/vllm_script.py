"""A script as vLLM's users write it; only the import has changed: python examples/vllm_script.py [MODEL]"""

from __future__ import annotations

import sys

from jackfield import LLM, SamplingParams  # was: from vllm import LLM, SamplingParams

llm = LLM(model=sys.argv[1] if len(sys.argv) > 1 else None, dtype="float32", max_model_len=512, seed=1)
tokenizer = llm.get_tokenizer()

conversations = [[{"role": "user", "content": f"What is a {thing}?"}] for thing in ("list", "string", "socket")]
prompts = [
    tokenizer.apply_chat_template(conversation, tokenize=False, add_generation_prompt=True)
    for conversation in conversations
]
sampling_params = SamplingParams(temperature=0.7, top_p=0.95, top_k=40, max_tokens=32, logprobs=1, stop=["\n"])

for output in llm.generate(prompts, sampling_params):
    completion = output.outputs[0]
    mean_logprob = completion.cumulative_logprob / len(completion.token_ids)
    print(f"{output.request_id}: {completion.text!r} ({completion.finish_reason}), mean logprob {mean_logprob:.2f}")

outputs = llm.chat(conversations, sampling_params=sampling_params, use_tqdm=False)
print(sum(len(output.outputs[0].token_ids) for output in outputs), "tokens")
