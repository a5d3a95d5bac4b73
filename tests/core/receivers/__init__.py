"""The other side of outgoing calls: hostile servers, a proxy, and a watch on every connection."""
