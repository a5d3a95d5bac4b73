"""A user as unlike Django's own as it may be: the key is no number, the name is an address."""

import uuid
from typing import Any

from django.contrib.auth.models import AbstractBaseUser, BaseUserManager
from django.db import models


class AccountManager(BaseUserManager["Account"]):
    def create_user(self, username: str) -> Any:
        return self.create(email=username)

    async def acreate_user(self, username: str) -> Any:
        return await self.acreate(email=username)


class Account(AbstractBaseUser):
    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    email = models.EmailField(unique=True)

    objects = AccountManager()

    USERNAME_FIELD = "email"
