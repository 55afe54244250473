"""The orders, under the package that is measured."""

from django.conf import settings
from django.db import models


class Order(models.Model):
    id = models.BigAutoField(primary_key=True)
    status = models.CharField(max_length=50)
    total = models.DecimalField(max_digits=10, decimal_places=2)
    customer_notes = models.TextField()
    internal_notes = models.TextField()
    created_at = models.DateTimeField()
    last_modified_at = models.DateTimeField()

    if settings.PACKAGE == "django-simple-history":
        from simple_history.models import HistoricalRecords

        history = HistoricalRecords()


if settings.PACKAGE == "django-auditlog":
    from auditlog.registry import auditlog

    auditlog.register(Order)
elif settings.PACKAGE == "django-pghistory":
    import pghistory

    # Deletions are recorded where they are asked for; triggers of statements are its fastest.
    events = pghistory.InsertEvent(), pghistory.UpdateEvent(), pghistory.DeleteEvent()
    pghistory.track(*events, level=pghistory.Statement)(Order)
