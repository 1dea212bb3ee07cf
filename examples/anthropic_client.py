"""Talk to a running Octavo server with the official Anthropic client: a stream with thinking, and a tool.

Usage: anthropic_client.py --model NAME [--url http://127.0.0.1:8000] [QUESTION]

Start a server first: `octavo serve octavo-s`. Needs `pip install anthropic`; a key comes from OCTAVO_API_KEY.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence

from anthropic import Anthropic
from anthropic.types import MessageParam, ToolParam, ToolResultBlockParam

WEATHER: ToolParam = {
    "name": "weather",
    "description": "Tells the weather of a city.",
    "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
}
ROUNDS = 3  # how often the model may call the tool before it has to answer


def stream(client: Anthropic, model: str, question: str) -> None:
    """Print reasoning in brackets and the answer after it, both while they arrive, then what it took."""
    messages: list[MessageParam] = [{"role": "user", "content": question}]
    print(f"  {client.messages.count_tokens(model=model, messages=messages).input_tokens} tokens asked")
    with client.messages.stream(
        model=model, messages=messages, max_tokens=300, thinking={"type": "enabled", "budget_tokens": 200}
    ) as events:
        for event in events:
            if event.type == "content_block_start" and event.content_block.type == "thinking":
                print("[", end="")
            elif event.type == "thinking":
                print(event.thinking, end="", flush=True)
            elif event.type == "signature":
                print("]")
            elif event.type == "text":
                print(event.text, end="", flush=True)
        usage = events.get_final_message().usage
    print(f"\n  {usage.input_tokens} read, {usage.cache_read_input_tokens} from the cache, {usage.output_tokens} made")


def with_tool(client: Anthropic, model: str, question: str) -> str:
    """The answer to a question for which the model may ask for the weather, which is always fine here."""
    messages: list[MessageParam] = [{"role": "user", "content": question}]
    for _ in range(ROUNDS):
        message = client.messages.create(model=model, messages=messages, max_tokens=200, tools=[WEATHER])
        calls = [block for block in message.content if block.type == "tool_use"]
        if not calls:
            break
        results: list[ToolResultBlockParam] = []
        for call in calls:
            print(f"  {call.name} of {call.input}")
            results.append({"type": "tool_result", "tool_use_id": call.id, "content": "Sunny, 21 degrees."})
        messages += [{"role": "assistant", "content": message.content}, {"role": "user", "content": results}]
    return "".join(block.text for block in message.content if block.type == "text")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run both; 0 when the server answered."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("question", nargs="?", default="What is an octavo?")
    parser.add_argument("--url", default="http://127.0.0.1:8000", help="where the server listens")
    parser.add_argument("--model", required=True, help="the served name, as `curl URL/v1/models` tells")
    given = parser.parse_args(arguments)
    with Anthropic(base_url=given.url, api_key=os.environ.get("OCTAVO_API_KEY", "none")) as client:
        print(f"-- a stream of {given.model}")
        stream(client, given.model, given.question)
        print("-- with a tool")
        print(with_tool(client, given.model, "What is the weather in Oslo?"))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
