-- A small, believable warehouse: 300 B2B SaaS accounts. Deterministic, so that every run of the quick start reads alike.
CREATE OR REPLACE TABLE accounts AS
WITH numbered AS (
    SELECT n, (hash(n, 'groupcast') % 1000000007)::BIGINT AS h FROM range(1, 301) AS numbers(n)
), pools AS (
    SELECT
        ['Aster', 'Birch', 'Cobalt', 'Drift', 'Ember', 'Fjord', 'Granite', 'Harbor', 'Indigo', 'Juniper', 'Kestrel',
         'Lumen', 'Meridian', 'Nimbus', 'Orchard', 'Pioneer', 'Quarry', 'Riverton', 'Summit', 'Tundra', 'Umbra',
         'Vertex', 'Willow', 'Xenon', 'Yarrow', 'Zephyr'] AS firsts,
        ['Analytics', 'Biotech', 'Capital', 'Dynamics', 'Energy', 'Foods', 'Health', 'Labs', 'Logistics', 'Media',
         'Networks', 'Robotics', 'Software', 'Systems', 'Travel'] AS lasts,
        ['Software', 'Healthcare', 'Finance', 'Retail', 'Manufacturing', 'Education', 'Logistics', 'Media'] AS industries,
        ['Lena Fischer', 'Marco Rossi', 'Aisha Khan', 'Tomás Silva', 'Grace Kim', 'Jonas Berg'] AS csms,
        [{'city': 'Berlin', 'country': 'DE', 'postal_code': '10115'}, {'city': 'Paris', 'country': 'FR', 'postal_code': '75002'},
         {'city': 'Austin', 'country': 'US', 'postal_code': '78701'}, {'city': 'Toronto', 'country': 'CA', 'postal_code': 'M5V'},
         {'city': 'São Paulo', 'country': 'BR', 'postal_code': '01310'}, {'city': '東京', 'country': 'JP', 'postal_code': '100-0001'}] AS places
)
SELECT
    format('acct_{:04d}', n) AS account_id,
    firsts[1 + h % 26] || ' ' || lasts[1 + (h // 26) % 15] AS name,
    industries[1 + (h // 400) % 8] AS industry,
    plan,
    (CASE plan WHEN 'free' THEN 0 WHEN 'team' THEN 4800 WHEN 'business' THEN 24000 ELSE 90000 END
        * (1 + (h // 7000) % 5) * 100)::BIGINT AS arr_cents,
    (CASE plan WHEN 'free' THEN 3 WHEN 'team' THEN 15 WHEN 'business' THEN 80 ELSE 400 END * (1 + (h // 90000) % 4))::INTEGER AS seats,
    CASE WHEN (h // 11) % 10 = 0 THEN NULL ELSE ((h // 11) % 1001 / 10.0)::DECIMAL(4, 1) END AS health_score,
    CASE WHEN plan = 'free' THEN NULL ELSE DATE '2027-01-01' + ((h // 13) % 365)::INTEGER END AS renewal_date,
    TIMESTAMP '2023-01-01 08:00:00' + to_days(((h // 17) % 1200)::INTEGER) + to_seconds((h % 36000)::BIGINT) AS created_at,
    CASE plan WHEN 'free' THEN [] WHEN 'enterprise' THEN [csms[1 + (h // 19) % 6], csms[1 + (1 + h // 19) % 6]]
        ELSE [csms[1 + (h // 19) % 6]] END AS csms,
    places[1 + (h // 23) % 6].city AS billing_city,
    places[1 + (h // 23) % 6].country AS billing_country,
    places[1 + (h // 23) % 6].postal_code AS billing_postal_code,
    plan <> 'free' AS is_customer
FROM numbered, pools, LATERAL (SELECT ['free', 'team', 'team', 'business', 'business', 'enterprise'][1 + (h // 29) % 6] AS plan)
ORDER BY account_id;
