-- One row per visit. A visit that was sent does not go again when it leaves the model and comes back.
SELECT visits.id, customers.email, visits.kind, visits.page, visits.happened_at
FROM visits
JOIN customers ON customers.id = visits.customer_id
