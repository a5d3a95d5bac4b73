"""Show in a template what somebody is to see of an experiment."""

from __future__ import annotations

import logging
from typing import Any

from django import template
from django.template import Context

register = template.Library()
logger = logging.getLogger(__name__)


@register.simple_tag(takes_context=True)
def variation(context: Context, flag: str, default: Any = "") -> Any:
    """Return a flag's value, as `request.experiments.value` does; or keep it by `as`.

    `{% variation "button-color" "red" %}`, or `{% variation "big-banner" False as is_big %}`.
    Without the request, or the middleware, it is the default, and a warning is logged.
    """
    experiments = getattr(context.get("request"), "experiments", None)
    if experiments is None:
        logger.warning("variation: the template has no request, or that no experiments")
        return default
    return experiments.value(flag, default)
