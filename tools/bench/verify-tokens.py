"""Checks greedy tokens against transformers in float32: one forward pass a prompt, the argmax at every answer position.

    python3 tools/bench/verify-tokens.py tokens.json apps/decoder/models/needle out.json

tokens.json comes from `node tools/bench/quality.mjs --fixtures ... --tokens tokens.json`. A token counts as equal when it is
the argmax, and as a tie when its logit is within 1e-3 of it (float32 sums in another order differ by about 1e-5).
"""

import json
import sys

import torch
import transformers

TIE = 1e-3
END = 1


def main(tokens_path: str, model_path: str, out_path: str) -> None:
    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.backends.cuda.matmul.allow_tf32 = False
    model = transformers.AutoModelForCausalLM.from_pretrained(model_path, dtype=torch.float32).to(device).eval()
    rows = {}
    with open(tokens_path) as file:
        items = json.load(file)
    for item in items:
        answer = item["answer"] + [END]  # what ended it; an answer cut at its limit has no such token
        ids = torch.tensor([item["prompt"] + item["answer"]], device=device)
        with torch.no_grad():
            logits = model(ids).logits[0, len(item["prompt"]) - 1 :].float()
        best = logits.max(-1)
        row = rows.setdefault(item["task"], {"prompts": 0, "tokens": 0, "equal": 0, "ties": 0, "different": []})
        row["prompts"] += 1
        for position, token in enumerate(answer):
            last = position == len(answer) - 1
            gap = float(best.values[position] - logits[position, token])
            if last and gap > TIE:
                continue  # the limit, not the end
            row["tokens"] += 1
            if int(best.indices[position]) == token:
                row["equal"] += 1
            elif gap < TIE:
                row["ties"] += 1
            else:
                row["different"].append({"seed": item["seed"], "token": position, "gap": gap})
    result = {
        "transformers": transformers.__version__,
        "torch": torch.__version__,
        "device": torch.cuda.get_device_name() if device == "cuda" else "cpu",
        "tasks": rows,
    }
    with open(out_path, "w") as file:
        json.dump(result, file, indent=1)
    print(json.dumps({task: {**row, "different": len(row["different"])} for task, row in rows.items()}))


main(*sys.argv[1:])
