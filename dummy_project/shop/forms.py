"""Ask a new customer for a name and a password."""

from __future__ import annotations

from django import forms
from django.contrib.auth.models import User
from django.contrib.auth.password_validation import validate_password


class SignUpForm(forms.ModelForm):
    """Register a new customer."""

    password = forms.CharField(
        strip=False,
        validators=[validate_password],
        widget=forms.PasswordInput(attrs={"autocomplete": "new-password"}),
    )

    class Meta:
        model = User
        fields = ("username",)
        help_texts = {"username": ""}
        widgets = {
            "username": forms.TextInput(attrs={"autocomplete": "username", "autofocus": True})
        }

    def save(self, commit: bool = True) -> User:
        """Save the customer with a hashed password."""
        self.instance.set_password(self.cleaned_data["password"])
        return super().save(commit)
