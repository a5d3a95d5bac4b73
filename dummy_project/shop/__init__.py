"""The shop: what it sells, who registers, what they order and refund."""
