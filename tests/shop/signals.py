from django.dispatch import Signal

# sender: the class Order; instance: the order that has been paid
order_paid = Signal()
