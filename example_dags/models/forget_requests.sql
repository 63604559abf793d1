-- One row per request to be forgotten. It may stay here for ever: a request is acted on once.
SELECT
    request_id,
    email,
    requested_at
FROM forget_requests
