-- One row per customer, with the address if there is one. Every column is named and every key is unique;
-- a customer with two addresses would be two rows with one key, and neither would be sent.
SELECT
    customers.id,
    customers.email,
    customers.first_name,
    customers.last_name,
    customers.birth_date,
    customers.signed_up_at,
    customers.last_order_at,
    customers.order_count,
    customers.lifetime_value,
    customers.pets,
    addresses.street,
    addresses.city,
    addresses.postal_code,
    addresses.country
FROM customers
LEFT JOIN addresses ON addresses.customer_id = customers.id
