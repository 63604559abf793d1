-- One row per customer of one partition. The task knows its partition, and all of them. They are numbers; partitions
-- that are texts are bound, see parameters in docs/partitions.md.
SELECT
    id,
    email,
    first_name,
    last_name,
    order_count
FROM customers
WHERE id % {{ task.partitions | length }} = {{ task.partition }}
