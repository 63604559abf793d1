-- Who belongs on the list: one row per member. Whoever is no longer found here is unsubscribed.
SELECT
    id,
    email,
    order_count
FROM customers
WHERE order_count >= 5
