SELECT account_id, account_name, plan, arr, renewal_date, csms, billing_city, billing_country
FROM analytics.dim_accounts
WHERE NOT is_internal
