"""A callback may be made on no partner's behalf, and may be withdrawn."""

from typing import Any

from django.db import migrations, models

CHANGE = "ALTER TABLE {} MODIFY {} {} {}"


class AllowNull(migrations.AlterField):
    """Let a column be empty, by SQL that can be read before its table is there.

    On MariaDB and MySQL Django looks at the table first, for the name of its foreign key, which it
    takes away and makes anew. That is not needed.
    """

    def database_forwards(
        self, app_label: str, schema_editor: Any, from_state: Any, to_state: Any
    ) -> None:
        """Change the column."""
        self._alter(app_label, schema_editor, from_state, to_state)

    def database_backwards(
        self, app_label: str, schema_editor: Any, from_state: Any, to_state: Any
    ) -> None:
        """Change it back; fails where it is empty anywhere."""
        self._alter(app_label, schema_editor, from_state, to_state)

    def _alter(self, app_label: str, schema_editor: Any, from_state: Any, to_state: Any) -> None:
        if schema_editor.connection.vendor != "mysql":
            super().database_forwards(app_label, schema_editor, from_state, to_state)
            return
        model = to_state.apps.get_model(app_label, self.model_name)
        if self.allow_migrate_model(schema_editor.connection.alias, model):
            field = model._meta.get_field(self.name)
            quoted = map(schema_editor.quote_name, (model._meta.db_table, field.column))
            kind = field.db_type(schema_editor.connection)
            null = "NULL" if field.null else "NOT NULL"
            schema_editor.execute(CHANGE.format(*quoted, kind, null))


class Migration(migrations.Migration):
    dependencies = [
        ("affiliations", "0006_know_hosts"),
    ]

    operations = [
        migrations.AddField(
            model_name="callback",
            name="withdrawn",
            field=models.BooleanField(default=False, editable=False),
        ),
        AllowNull(
            model_name="callback",
            name="partner",
            field=models.ForeignKey(
                blank=True,
                help_text="On whose behalf it is made, and who can verify its signature.",
                null=True,
                on_delete=models.deletion.CASCADE,
                related_name="callbacks",
                to="affiliations.partner",
                verbose_name="partner",
            ),
        ),
    ]
