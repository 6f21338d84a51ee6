CREATE DATABASE crm CHARACTER SET utf8mb4;
USE crm;
CREATE TABLE accounts (
    id varchar(100), seats int, big bigint, mrr decimal(12, 2), ratio double, active boolean, day date,
    moment datetime(6), zoned datetime(6), word varchar(200), `q"x%` varchar(200)
);
INSERT INTO accounts VALUES
    ('a', 3, 9007199254740993, 12.50, 0.1, true, '2024-02-29', '2024-01-02 03:04:05.678901',
     '2024-01-02 03:04:05.678901', 'Grüße 🎉', 'odd'),
    ('b', -2147483648, -9223372036854775807, -0.01, 1e21, false, '1969-12-31', '1677-01-01 00:00:00',
     '1969-12-31 23:59:59.5', 'a "quoted" word', null),
    ('c', 2147483647, 9223372036854775807, 9999999999.99, 1e-7, null, '9999-12-31', '2300-01-01 00:00:00.000001',
     '2024-07-01 00:00:00', '', ''),
    ('d', null, null, null, null, null, null, null, null, null, null);
CREATE USER groupcast@localhost IDENTIFIED BY 'not-a-secret';
GRANT SELECT ON crm.* TO groupcast@localhost;
