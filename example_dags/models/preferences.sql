-- One row per customer and message type, with what the customer chose and since when.
SELECT
    customer_id,
    email,
    message_type_id,
    choice,
    consented_at
FROM message_preferences
