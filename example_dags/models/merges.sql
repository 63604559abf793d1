-- Who turned out to be the same person: one row per merge, and the profile that stays.
SELECT merge_id, old_email, kept_email
FROM merges
ORDER BY merge_id
