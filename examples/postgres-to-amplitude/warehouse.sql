CREATE SCHEMA IF NOT EXISTS analytics;
CREATE TABLE IF NOT EXISTS analytics.dim_accounts (
    account_id uuid PRIMARY KEY,
    account_name text NOT NULL,
    plan text,
    arr numeric(12, 2),
    renewal_date date,
    csms text[],
    billing_city text,
    billing_country text,
    is_internal boolean NOT NULL DEFAULT false
);
INSERT INTO analytics.dim_accounts VALUES
    ('6f1c2d3e-0001-4000-8000-000000000001', 'Aster Analytics', 'team', 4800.00, '2027-03-01', '{Lena Fischer}', 'Berlin', 'DE'),
    ('6f1c2d3e-0002-4000-8000-000000000002', 'Birch Biotech', 'enterprise', 90000.50, '2027-09-15', '{Marco Rossi,Grace Kim}', 'Paris', 'FR'),
    ('6f1c2d3e-0003-4000-8000-000000000003', 'Cobalt Capital', 'free', NULL, NULL, NULL, NULL, 'US')
ON CONFLICT DO NOTHING;
