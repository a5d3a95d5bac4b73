"""A Flagship environment, for tests, and a client that speaks to it by Django's test client."""

import json

from affiliations.tracking.models import Property


class Environment:
    """A property, with its key, and how clients reach it."""

    def __init__(self, **fields):
        self.prop, self.key = Property.objects.issue(**{"name": "Shop", **fields})
        self.id = self.prop.public_key

    def post(self, client, path, body, **headers):
        """Post JSON, or bytes as they are, to a path below the mount point."""
        sent = body if isinstance(body, bytes) else json.dumps(body)
        return client.post(
            f"/flagship/{path}", sent, content_type="application/json", headers=headers
        )

    def decide(self, client, visitor_id="visitor-1", path="campaigns/", query="", **fields):
        """Ask what somebody sees, as a client does that says later what was seen."""
        body = {"visitorId": visitor_id, "trigger_hit": False, "context": {}, **fields}
        where = f"v2/{self.id}/{path}?sendContextEvent=false{query}"
        return self.post(client, where, body, **{"x-api-key": self.key})

    def flags(self, client, visitor_id="visitor-1", **fields):
        """Return what somebody is given, flag by flag."""
        found = {}
        for each in self.decide(client, visitor_id, **fields).json()["campaigns"]:
            found |= each["variation"]["modifications"]["value"]
        return found

    def activate(self, client, visitor_id, variation, **fields):
        """Tell that somebody has seen a variation."""
        seen = {"caid": variation.group.uid, "vaid": variation.uid, "vid": visitor_id}
        return self.post(client, "v2/activate", {"cid": self.id, **seen, **fields})

    def collect(self, client, *children, sdk="", **fields):
        """Tell of what somebody has done: one hit, or several as a batch."""
        [first, *others] = children
        if others or fields:
            body = {"cid": self.id, "t": "BATCH", "ds": "APP", "h": list(children), **fields}
        else:
            body = {"cid": self.id, "ds": "APP", **first}
        headers = {"x-sdk-version": sdk} if sdk else {}
        return self.post(client, "collect/", body, **headers)
