-- One row per cart as it is now; items is a JSON array of objects with id, name, price and quantity.
SELECT carts.customer_id, carts.changed_at, customers.email, carts.items
FROM carts
JOIN customers ON customers.id = carts.customer_id
