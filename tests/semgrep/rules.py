"""What the rules must find, and what they must let pass: `semgrep scan --test tests/semgrep`."""

import datetime
import http.client
import json
import socket
import urllib.request

import requests
from django.http import HttpResponsePermanentRedirect
from django.shortcuts import redirect
from django.utils.html import format_html
from django.utils.safestring import SafeString, mark_safe

# ruleid: calls-go-through-the-guard
requests.get(url)
# ruleid: calls-go-through-the-guard
requests.Session()
# ruleid: calls-go-through-the-guard
urllib.request.urlopen(url)
# ruleid: calls-go-through-the-guard
http.client.HTTPSConnection(host)
# ruleid: calls-go-through-the-guard
socket.create_connection((host, 80))
# ruleid: calls-go-through-the-guard
socket.socket()
# ok: calls-go-through-the-guard
egress.send("GET", url, headers={}, body=b"")

# ruleid: no-template-of-a-stranger
callback_url.format(visitor_id=visitor)
# ok: no-template-of-a-stranger
"{}".format(visitor)

# ruleid: no-text-becomes-markup
mark_safe(text)
# ruleid: no-text-becomes-markup
SafeString(text)
# ruleid: no-text-becomes-markup
format_html(f"<b>{text}</b>")
# ok: no-text-becomes-markup
format_html("<b>{}</b>", text)

# ruleid: no-lasting-redirect
HttpResponsePermanentRedirect(url)
# ruleid: no-lasting-redirect
redirect(url, permanent=True)
# ok: no-lasting-redirect
redirect(url)

# ruleid: no-filter-of-a-stranger
rows.filter(**request.GET)
# ruleid: no-filter-of-a-stranger
rows.filter(**request.POST.dict())
# ruleid: no-filter-of-a-stranger
rows.filter(**json.loads(body))
# ok: no-filter-of-a-stranger
rows.filter(pk=request.GET["pk"])

# ruleid: no-naive-time
datetime.datetime.now()
# ruleid: no-naive-time
datetime.datetime.utcnow()
# ok: no-naive-time
timezone.now()
