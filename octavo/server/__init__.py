"""Clients of other systems over HTTP: the OpenAI and Anthropic protocols, documents, health and metrics.

`app` puts it together; `protocol` translates requests and answers; `turn` is one chat turn of any protocol; `bridge`
joins asyncio to the service's threads; `stream` sends events, `errors` says what went wrong in a client's own words.
Does not cover: what runs when, and how (`octavo.engine.serving`). Loads no torch.
"""
