SELECT id, seats, big, mrr, ratio, active, day, moment, zoned, word, `q"x%` FROM VALUES(
    'id String, seats Nullable(Int32), big Nullable(Int64), mrr Nullable(Decimal(12, 2)), ratio Nullable(Float64), active Nullable(Bool), day Nullable(Date32), moment Nullable(DateTime64(6, ''UTC'')), zoned Nullable(DateTime64(6, ''UTC'')), word Nullable(String), `q"x%` Nullable(String)',
    ('a', 3, 9007199254740993, '12.50', 0.1, true, '2024-02-29', '2024-01-02 03:04:05.678901', '2024-01-02 03:04:05.678901', 'Grüße 🎉', 'odd'),
    ('b', -2147483648, -9223372036854775807, '-0.01', 1e21, false, '1969-12-31', NULL, '1969-12-31 23:59:59.5', 'a "quoted" word', NULL),
    ('c', 2147483647, 9223372036854775807, '9999999999.99', 1e-7, NULL, NULL, NULL, '2024-07-01 00:00:00', '', ''),
    ('d', NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL)
)
