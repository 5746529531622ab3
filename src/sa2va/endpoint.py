"""Ask a chat model behind an OpenAI-compatible server, with pictures, timeouts and retries.

Flow: messages -> Endpoint.ask -> POST <url>/chat/completions -> reply -> the caller's `read` -> value.
    evaluation/judge.py rates answers with it, synth/remote.py writes and checks captions.
Source: the chat completions of the OpenAI API, as vLLM, SGLang and llama.cpp serve them too.
"""

import base64
import http.client
import io
import json
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from typing import Any, Generic, NamedTuple, TypeVar
from urllib.parse import urlsplit

import numpy as np
from PIL import Image

from sa2va.types import Frame

RETRIES = 3
PAUSE = 1.0  # seconds before the first retry; doubled for each further one
LONGEST_PAUSE = 60.0  # seconds that a server may ask for with Retry-After
TIMEOUT = 120.0  # seconds
MAX_REPLY = 1 << 20  # bytes
MAX_SIDE = 1024  # px of a picture
NUM_WORKERS = 8  # questions that wait for the server at once
_PASSING = (408, 409, 425, 429)  # statuses below 500 that are worth a retry

T = TypeVar("T")
Message = dict[str, Any]


class Unreachable(ValueError):
    """The server cannot be reached, or refuses the request."""


class Reply(NamedTuple, Generic[T]):
    """A reply that could be read, or the reason why there is none.

    Attributes:
        value: what `read` made of it; None = nothing.
        text: of the reply.
        error: why there is no value.
        is_answered: whether the model said anything; otherwise its server was busy or broken each time.
    """

    value: T | None
    text: str = ""
    error: str = ""
    is_answered: bool = True


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """Follow no redirect: it would carry the key to another server."""

    def redirect_request(self, *args: object, **kwargs: object) -> None:
        """Return None, so that a redirect is an error."""


class Endpoint:
    """A chat model behind an OpenAI-compatible server. Thread-safe."""

    def __init__(self, url: str, model: str | None, *, noun: str, key: str | None = None, pause: float = PAUSE) -> None:
        """Check the address.

        Args:
            url: base of the server, as in "http://127.0.0.1:8000/v1".
            model: its name at the server.
            noun: what the model is for, as in "judge"; begins the messages of errors.
            key: sent as a bearer token; never stored.
            pause: seconds before the first retry.

        Raises:
            ValueError: no address of a server, an address that may hold a secret, no name of its model, or a key that
                no header can hold.
        """
        if not is_url(url):
            raise ValueError(f"{noun} {url!r}: expected the base of a server, as in http://127.0.0.1:8000/v1")
        parts = urlsplit(url)
        if "@" in parts.netloc or parts.query or parts.fragment:  # not shown, since it would be kept in files and logs
            raise ValueError(
                f"{noun} at {parts.hostname}: its address has a user, a query or a fragment; give the base alone, as "
                "in http://127.0.0.1:8000/v1, and a secret as the key"
            )
        if not model:
            raise ValueError(f"{noun} {url}: needs the name of its model; add --{noun}-model NAME")
        check_key(key, noun)
        self.url, self.model, self.noun, self._key, self._pause = url, model, noun, key, pause
        local = urlsplit(url).hostname in ("127.0.0.1", "localhost", "::1")
        proxies = [urllib.request.ProxyHandler({})] if local else []
        self._opener = urllib.request.build_opener(_NoRedirect, *proxies)

    def ask(self, messages: Sequence[Message], read: Callable[[str], T | None], wanted: str) -> Reply[T]:
        """Ask the server until its reply can be read, a few times.

        Args:
            messages: of the chat, as in the OpenAI API.
            read: turns the text of a reply into a value; None = it cannot be read, so ask again.
            wanted: what a reply must hold, for errors.

        Raises:
            Unreachable: the server cannot be reached or refuses the request.
        """
        error, pause, is_answered = "", self._pause, False
        for attempt in range(1 + RETRIES):
            if attempt:
                time.sleep(pause)
                pause = self._pause * 2**attempt
            try:
                text = self._post(messages)
            except urllib.error.HTTPError as refused:
                if refused.code < 500 and refused.code not in _PASSING:
                    raise Unreachable(f"{self.noun} {self.url}: refuses with {refused.code} {refused.reason}") from None
                error, pause = f"{refused.code} {refused.reason}", max(pause, _read_pause(refused))
                is_answered = False
            except (OSError, http.client.HTTPException) as broken:
                if attempt == RETRIES:
                    reason = getattr(broken, "reason", broken)  # of urllib's own error
                    raise Unreachable(f"{self.noun} {self.url}: cannot be reached ({reason})") from None
            except (ValueError, KeyError, IndexError, TypeError, RecursionError) as wrong:
                error, is_answered = f"no chat completion ({type(wrong).__name__})", False
            else:
                if (value := read(text)) is not None:
                    return Reply(value, text)
                error, is_answered = f"no {wanted} in {text!r:.60}", True
        return Reply(None, error=error, is_answered=is_answered)

    def _post(self, messages: Sequence[Message]) -> str:
        body = {"model": self.model, "messages": list(messages), "temperature": 0}
        headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {self._key}"} if self._key else {})
        request = urllib.request.Request(
            f"{self.url.rstrip('/')}/chat/completions", data=json.dumps(body).encode(), headers=headers
        )
        with self._opener.open(request, timeout=TIMEOUT) as response:
            text = str(json.loads(response.read(MAX_REPLY))["choices"][0]["message"]["content"] or "").strip()
        return text.encode("utf-8", "replace").decode()  # no file can hold half a surrogate pair


def _read_pause(refused: urllib.error.HTTPError) -> float:
    """Return the seconds of the header Retry-After, at most LONGEST_PAUSE; 0 without a number."""
    value = (refused.headers or {}).get("Retry-After") or ""
    return min(float(value), LONGEST_PAUSE) if value.isdecimal() else 0.0


def is_url(text: str) -> bool:
    """Return whether a text is the address of a server rather than a model's name."""
    try:
        parts = urlsplit(text)
    except ValueError:  # an unclosed bracket
        return False
    return parts.scheme in ("http", "https") and bool(parts.hostname)


def check_key(key: str | None, noun: str) -> None:
    """Refuse a key that no header can hold.

    Raises:
        ValueError: it has other characters than printable ASCII.
    """
    if key is not None and not (key.isascii() and key.isprintable()):
        raise ValueError(f"the key of the {noun} has other characters than printable ASCII; correct it")


def write_message(text: str, pictures: Sequence[Frame] = ()) -> Message:
    """Write a user's message: pictures as PNG data URIs, at most MAX_SIDE px on their longer side, then the text."""
    if not pictures:
        return {"role": "user", "content": text}
    shown = [{"type": "image_url", "image_url": {"url": _to_uri(one)}} for one in pictures]
    return {"role": "user", "content": [*shown, {"type": "text", "text": text}]}


def _to_uri(picture: Frame) -> str:
    file, image = io.BytesIO(), Image.fromarray(np.ascontiguousarray(picture))
    image.thumbnail((MAX_SIDE, MAX_SIDE))  # never enlarges
    image.save(file, "PNG")
    return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"
