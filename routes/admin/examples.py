"""The first call as programs write it, for the pages about keys: the key is in a variable, the model has any name."""

import json
import shlex
from typing import Any, Final

VARIABLE: Final = "TOLLHOUSE_API_KEY"


def curl(base_url: str, model: str) -> str:
    """The call in a shell."""
    body: dict[str, Any] = {"model": model, "messages": [{"role": "user", "content": "Hello!"}]}
    return (
        f'curl {base_url}/v1/chat/completions \\\n  -H "Authorization: Bearer ${VARIABLE}" \\\n'
        f"  -H 'Content-Type: application/json' \\\n  -d {shlex.quote(json.dumps(body, ensure_ascii=False))}"
    )


def python(base_url: str, model: str) -> str:
    """With OpenAI's SDK."""
    return (
        "import os\n\nfrom openai import OpenAI\n\n"
        f'client = OpenAI(base_url="{base_url}/v1", api_key=os.environ["{VARIABLE}"])\n'
        f"answer = client.chat.completions.create(\n    model={_literal(model)},\n"
        '    messages=[{"role": "user", "content": "Hello!"}],\n)\nprint(answer.choices[0].message.content)'
    )


def node(base_url: str, model: str) -> str:
    """With OpenAI's SDK for JavaScript."""
    return (
        'import OpenAI from "openai";\n\n'
        f'const client = new OpenAI({{ baseURL: "{base_url}/v1", apiKey: process.env.{VARIABLE} }});\n'
        f"const answer = await client.chat.completions.create({{\n  model: {_literal(model)},\n"
        '  messages: [{ role: "user", content: "Hello!" }],\n});\nconsole.log(answer.choices[0].message.content);'
    )


def anthropic(base_url: str, model: str) -> str:
    """With Anthropic's SDK."""
    return (
        "import os\n\nfrom anthropic import Anthropic\n\n"
        f'client = Anthropic(base_url="{base_url}", api_key=os.environ["{VARIABLE}"])\n'
        f"answer = client.messages.create(\n    model={_literal(model)},\n    max_tokens=200,\n"
        '    messages=[{"role": "user", "content": "Hello!"}],\n)\nprint(answer.content[0].text)'
    )


def _literal(text: str) -> str:
    """A text as Python and JavaScript write it, both of which take JSON's."""
    return json.dumps(text, ensure_ascii=False)
