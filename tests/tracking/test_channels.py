"""What brought somebody: campaigns, click ids, and where they come from."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from affiliations.tracking.channels import CHANNELS, Touch, host_of, touch_of

SHOP = "https://shop.example/"


def brought(query="", referrer="", **options):
    return touch_of(f"{SHOP}{query}", referrer, **options)


@pytest.mark.parametrize(
    ("url", "referrer"),
    [
        (SHOP, ""),
        (f"{SHOP}?page=2", ""),
        (SHOP, f"{SHOP}other"),
        (SHOP, "https://www.shop.example/"),
        (SHOP, "https://SHOP.example:8000/"),
        (SHOP, "about:blank"),
        (SHOP, "nonsense"),
        (SHOP, "https://[::1"),
        ("URL unknown", ""),
        ("", ""),
        (f"{SHOP}?utm_source=&utm_medium=%20", ""),
        (f"{SHOP}#utm_source=google", ""),
    ],
)
def test_nothing_has_brought_them(url, referrer):
    assert touch_of(url, referrer) is None


def test_hosts_of_the_site_itself():
    referrer = "https://pay.example/done"
    assert brought(referrer=referrer).channel == "referral"
    assert brought(referrer=referrer, own=["pay.example"]) is None
    assert brought(referrer="https://my.pay.example/", own=["pay.example"]) is None
    assert brought(referrer="https://notpay.example/", own=["pay.example"]).channel == "referral"


@pytest.mark.parametrize(
    ("referrer", "channel", "source"),
    [
        ("https://www.google.com/", "organic_search", "google"),
        ("https://www.google.co.uk/search?q=mug", "organic_search", "google"),
        ("https://google.de", "organic_search", "google"),
        ("https://search.yahoo.co.jp/", "organic_search", "yahoo"),
        ("https://search.brave.com/", "organic_search", "brave"),
        ("https://duckduckgo.com/", "organic_search", "duckduckgo"),
        ("https://mail.google.com/mail/u/0", "email", "mail.google.com"),
        ("https://l.facebook.com/l.php", "organic_social", "facebook"),
        ("https://t.co/abc", "organic_social", "x"),
        ("https://t.me/abc", "organic_social", "telegram"),
        ("https://de.pinterest.com/", "organic_social", "pinterest"),
        ("https://www.pinterest.de/", "organic_social", "pinterest"),
        ("https://youtu.be/x", "organic_video", "youtube"),
        ("https://chatgpt.com/", "ai_assistant", "chatgpt"),
        ("https://chat.openai.com/", "ai_assistant", "chatgpt"),
        ("https://gemini.google.com/app", "ai_assistant", "gemini"),
        ("https://google.evil.example/", "referral", "google.evil.example"),
        ("https://notgoogle.com/", "referral", "notgoogle.com"),
        ("https://chat.example/", "referral", "chat.example"),
        ("https://www.blog.example/post", "referral", "blog.example"),
        ("android-app://com.slack/", "referral", "com.slack"),
        ("https://bücher.example/", "referral", "bücher.example"),
    ],
)
def test_where_they_come_from(referrer, channel, source):
    assert brought(referrer=referrer) == Touch(channel, source, "", "", "", "", {})


@pytest.mark.parametrize(
    ("query", "channel"),
    [
        ("utm_source=google&utm_medium=cpc", "paid_search"),
        ("utm_source=Google&utm_medium=CPC", "paid_search"),
        ("utm_source=google&utm_medium=cpm", "paid_search"),
        ("utm_source=ads&utm_medium=cpm", "display"),
        ("utm_source=facebook&utm_medium=paid-social", "paid_social"),
        ("utm_source=fb&utm_medium=paid", "paid_social"),
        ("utm_source=twitch&utm_medium=cpv", "paid_video"),
        ("utm_source=youtube&utm_medium=cpc", "paid_video"),
        ("utm_source=podcast&utm_medium=ppc", "paid_other"),
        ("utm_source=spring&utm_medium=email", "email"),
        ("utm_source=newsletter", "email"),
        ("utm_source=anna&utm_medium=affiliate", "affiliate"),
        ("utm_source=x&utm_medium=social", "organic_social"),
        ("utm_source=facebook", "organic_social"),
        ("utm_source=google&utm_medium=organic", "organic_search"),
        ("utm_source=app&utm_medium=mobile-push", "push"),
        ("utm_source=app&utm_medium=sms", "sms"),
        ("utm_source=chatgpt.com", "ai_assistant"),
        ("utm_source=partner-blog&utm_medium=referral", "referral"),
        ("utm_source=x-y-z&utm_medium=banner", "display"),
        ("utm_campaign=spring", "other"),
        ("utm_source=chat", "other"),
        ("utm_medium=qr", "other"),
        ("gclid=abc", "paid_search"),
        ("dclid=abc", "display"),
        ("ttclid=abc", "paid_social"),
        ("fbclid=abc", "organic_social"),
        ("fbclid=abc&utm_medium=paid&utm_source=facebook", "paid_social"),
        ("gclid=abc&utm_source=google&utm_medium=organic", "organic_search"),
    ],
)
def test_campaigns(query, channel):
    assert brought(f"?{query}").channel == channel


def test_what_is_kept_of_a_campaign():
    touch = brought(
        "a/b?x=1&utm_source=spring%20mail&utm_medium=email&utm_campaign=M%C3%A4rz"
        "&utm_term=a+b&utm_content=top&utm_source=second&gclid=G-1&fbclid=F#utm_term=no",
        "https://www.google.com/",
    )
    assert touch == Touch(
        "email", "spring mail", "email", "März", "a b", "top", {"gclid": "G-1", "fbclid": "F"}
    )


def test_a_campaign_counts_before_where_they_come_from():
    touch = brought("?utm_source=newsletter&utm_medium=email", "https://www.google.com/")
    assert (touch.channel, touch.source) == ("email", "newsletter")
    assert brought("?utm_campaign=spring", "https://www.google.com/") == Touch(
        "organic_search", "google", "", "spring", "", "", {}
    )


def test_an_affiliate_link_counts_before_all_else():
    assert brought(by_partner=True).channel == "affiliate"
    touch = brought("?gclid=1", "https://www.google.com/", by_partner=True)
    assert (touch.channel, touch.source, touch.click_ids) == ("affiliate", "google", {"gclid": "1"})


def test_each_field_is_bounded():
    touch = brought(f"?utm_source={'s' * 10_000}&utm_term=a%00b&gclid={'g' * 10_000}")
    assert (len(touch.source), touch.term, len(touch.click_ids["gclid"])) == (200, "ab", 200)
    assert len(brought(referrer=f"https://{'a.' * 120}example/").source) == 200


@pytest.mark.parametrize(
    ("address", "host"),
    [
        ("https://User:pw@Shop.Example:8000/x", "shop.example"),
        ("https://shop.example./", "shop.example"),
        ("//shop.example/x", "shop.example"),
        ("https://[::1]:80/", "::1"),
        ("https://[::1", ""),
        ("shop.example", ""),
        ("", ""),
        ("\0", ""),
        ("https://a\0b.example/", ""),
        ("https://\ud800.example/", ""),
        (f"https://{'a.' * 123}example/", "a." * 123 + "example"),
        (f"https://{'a.' * 124}example/", ""),
        (f"https://{'a.' * 500_000}example/", ""),
    ],
)
def test_hosts(address, host):
    assert host_of(address) == host


parts = st.sampled_from(
    ["https://", "?", "&", "#", "=", "%", "%00", "%zz", "[", "]", "utm_source", "gclid", "google"]
)
addresses = st.lists(parts | st.text(max_size=5), max_size=12).map("".join)


@given(url=addresses, referrer=addresses, own=st.lists(addresses, max_size=2))
def test_nothing_that_is_sent_does_harm(url, referrer, own):
    touch = touch_of(url, referrer, own=own)
    if touch is None:
        return
    assert touch.channel in CHANNELS
    texts = [*touch[1:6], *touch.click_ids.values()]
    assert all(len(each) <= 200 for each in texts)
    # What no database takes.
    assert not any(re.search(r"[\x00-\x1f\ud800-\udfff]", each) for each in texts)
