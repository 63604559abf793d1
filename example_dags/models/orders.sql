-- One row per order; items is a JSON array of objects with id, name, price and quantity.
SELECT
    orders.id,
    orders.order_number,
    customers.email,
    orders.ordered_at,
    orders.items,
    orders.total,
    orders.coupon
FROM orders
JOIN customers ON customers.id = orders.customer_id
