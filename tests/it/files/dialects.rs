//! How do the programs write that people export from?

use super::{hold, refused, sent, utf16};

#[test]
fn delimiters() {
    hold(&[
        sent(
            "semicolons",
            "a.csv",
            "id;name;n\n007;Acme, Inc.;5\n",
            "name n",
            r#"{"007":{"name":"Acme, Inc.","n":5}}"#,
        )
        .says("delimiter `;`"),
        sent(
            "tabs",
            "a.tsv",
            "id\tname\n007\tAcme, \"Best\" Ltd\n",
            "name",
            r#"{"007":{"name":"Acme, \"Best\" Ltd"}}"#,
        )
        .says("delimiter tab"),
        sent("tabs_in_a_text_file", "a.txt", "id\tname\n007\tAcme, Inc.\n", "name", r#"{"007":{"name":"Acme, Inc."}}"#),
        sent("pipes", "a.psv", "id|name\n007|Acme, Inc.\n", "name", r#"{"007":{"name":"Acme, Inc."}}"#),
        sent("excel_says_it", "a.csv", "sep=;\r\nid;name\r\n007;a,b\r\n", "name", r#"{"007":{"name":"a,b"}}"#),
        sent(
            "excel_says_comma",
            "a.csv",
            "sep=,\nid,name;x\n007,Acme;y\n",
            "n = \"name;x\"",
            r#"{"007":{"n":"Acme;y"}}"#,
        ),
        sent("another_delimiter", "a.csv", "id^name\n007^Acme\n", "name", r#"{"007":{"name":"Acme"}}"#)
            .source("delimiter = \"^\""),
        sent("a_tab_by_its_name", "a.csv", "id\tname,x\n007\tAcme,y\n", "n = \"name,x\"", r#"{"007":{"n":"Acme,y"}}"#)
            .source("delimiter = \"tab\""),
        sent("single_quotes", "a.csv", "id,name\n007,'Acme, Inc.'\n", "name", r#"{"007":{"name":"Acme, Inc."}}"#)
            .source("quote = \"'\""),
        sent("no_quotes", "a.tsv", "id\tname\n007\t\"Acme\" Ltd\n", "name", r#"{"007":{"name":"\"Acme\" Ltd"}}"#)
            .source("quote = \"none\""),
        sent(
            "decimal_comma_unsaid",
            "a.csv",
            "id;arr\na;1234,5\nb;7\n",
            "arr",
            r#"{"a":{"arr":"1234,5"},"b":{"arr":"7"}}"#,
        )
        .says("with a decimal comma, the first at decimal_comma_unsaid/a.csv, line 2: it is sent as text")
        .says("write `decimal = \",\"` at the source"),
        refused(
            "a_delimiter_of_two",
            "a.csv",
            "id;;name\n",
            "`delimiter` is not one character of punctuation",
            "write `delimiter",
        )
        .source("delimiter = \";;\""),
        refused(
            "a_source_that_is_a_file",
            "a.csv",
            "id;name\n",
            "`encoding`, `delimiter`, `quote` and `decimal` are about text files, and this source is a database",
            "without `path`",
        )
        .source("path = \"w.duckdb\"\ndelimiter = \";\""),
    ]);
}

#[test]
fn decimal_commas() {
    hold(&[
        sent(
            "decimal_comma",
            "a.csv",
            "id;arr;ext\n007;1234,50;1\n8;-0,75;2\n",
            "arr ext",
            r#"{"007":{"arr":1234.5,"ext":1},"8":{"arr":-0.75,"ext":2}}"#,
        )
        .source("decimal = \",\""),
        sent("decimal_comma_as_text", "a.csv", "id;arr\na;1234,50\n", "arr:string", r#"{"a":{"arr":"1234,50"}}"#)
            .source("decimal = \",\""),
        sent(
            "decimal_comma_declared",
            "a.csv",
            "id;arr\na;1234,50\nb;x\n",
            "arr:number",
            r#"{"a":{"arr":1234.5},"b":{"rejected":"trait `arr`: cannot convert text \"x\" to number"}}"#,
        )
        .source("decimal = \",\""),
        sent(
            "decimal_comma_and_points",
            "a.csv",
            "id;arr\na;1.234,50\nb;2,00\n",
            "arr:number",
            r#"{"a":{"arr":1234.5},"b":{"arr":2}}"#,
        )
        .source("decimal = \",\""),
        sent(
            "decimal_comma_in_sql",
            "a.csv",
            "id;arr\na;1234,50\n",
            "arr = { sql = \"arr * 2\" }",
            r#"{"a":{"arr":2469}}"#,
        )
        .source("decimal = \",\""),
        sent(
            "a_point_beside_a_decimal_comma",
            "a.csv",
            "id;arr\na;1.5\nb;2,5\n",
            "arr",
            r#"{"a":{"arr":"1.5"},"b":{"arr":"2,5"}}"#,
        )
        .source("decimal = \",\""),
    ]);
}

#[test]
fn as_the_programs_write_it() {
    hold(&[
        // Excel: "CSV UTF-8" and, in Europe, semicolons; "Unicode text" is UTF-16 with tabs.
        sent("excel_utf8", "a.csv", "\u{feff}Id;Name;Umsatz;Aktiv\r\n00042;\"Müller \"\"&\"\" Söhne\";1234,50;WAHR\r\n", "n = \"Name\"\nu = \"Umsatz\"\na = \"Aktiv\"",
            r#"{"00042":{"n":"Müller \"&\" Söhne","u":1234.5,"a":"WAHR"}}"#).key("Id").source("decimal = \",\"").says("UTF-8 with a byte order mark"),
        sent("excel_unicode_text", "a.txt", [b"\xff\xfe".to_vec(), utf16("Id\tName\r\n00042\tMüller\r\n", false)].concat(), "n = \"Name\"", r#"{"00042":{"n":"Müller"}}"#)
            .key("Id").source("encoding = \"utf-16le\"").says("UTF-16LE with a byte order mark"),
        sent("excel_formulas_as_text", "a.csv", "id,ext\r\na,\"=\"\"00042\"\"\"\r\n", "ext", r#"{"a":{"ext":"=\"00042\""}}"#),
        sent("salesforce_data_loader", "a.csv", "\"ID\",\"NAME\",\"ANNUALREVENUE\",\"ISACTIVE\",\"CREATEDDATE\"\n\"0015g00000AbCdEAAV\",\"Acme\",\"1500000.0\",\"true\",\"2026-03-04T17:30:00.000Z\"\n\"0015g00000AbCdFAAV\",\"Beta\",\"\",\"false\",\"2025-01-01T00:00:00.000Z\"\n",
            "rev = \"ANNUALREVENUE\"\nactive = \"ISACTIVE\"\ncreated = \"CREATEDDATE\"",
            r#"{"0015g00000AbCdEAAV":{"rev":1500000,"active":true,"created":"2026-03-04T17:30:00Z"},"0015g00000AbCdFAAV":{"rev":null,"active":false,"created":"2025-01-01T00:00:00Z"}}"#).key("ID"),
        sent("salesforce_ids_differ_by_capitals", "a.csv", "Id,n\n0015g00000abcde,1\n0015g00000ABCDE,2\n", "n", r#"{"0015g00000abcde":{"n":1},"0015g00000ABCDE":{"n":2}}"#).key("Id"),
        sent("hubspot", "a.csv", "Record ID,Company name,Create Date,Annual Revenue,Number of Employees,Phone Number\n19042837465012,\"Acme, Inc.\",2026-03-04 17:30,1250000.5,1000,\"+1 555 0100\"\n19042837465013,Beta,2026-03-05 08:00,,25,\n",
            "name = \"Company name\"\ncreated = { column = \"Create Date\", as = \"timestamp\" }\narr = \"Annual Revenue\"\nseats = \"Number of Employees\"",
            r#"{"19042837465012":{"name":"Acme, Inc.","created":"2026-03-04T17:30:00Z","arr":1250000.5,"seats":1000},"19042837465013":{"name":"Beta","created":"2026-03-05T08:00:00Z","arr":null,"seats":25}}"#).key("Record ID"),
        sent("stripe", "a.csv", "id,Description,Amount,Currency,Created (UTC),Delinquent,metadata\ncus_1,\"Acme \"\"Best\"\"\",19.90,eur,2026-03-04 17:30,false,\"{\"\"plan\"\":\"\"pro\"\",\"\"seats\"\":1.50}\"\ncus_2,Beta,0.00,usd,2026-03-05 08:00,true,\n",
            "amount = \"Amount\"\ndelinquent = \"Delinquent\"\nmeta = { column = \"metadata\", as = \"json\" }",
            r#"{"cus_1":{"amount":19.9,"delinquent":false,"meta":{"plan":"pro","seats":1.5}},"cus_2":{"amount":0,"delinquent":true,"meta":null}}"#),
        sent("stripe_europe", "a.csv", "id;Amount;Currency\ncus_1;19,90;eur\n", "amount = \"Amount\"", r#"{"cus_1":{"amount":19.9}}"#).source("decimal = \",\""),
        sent("pandas_with_index", "a.csv", ",id,seats,live,since\n0,007,5.0,True,2026-03-04 00:00:00\n1,8,,False,2026-03-05 12:30:00\n",
            "seats live since", r#"{"007":{"seats":5,"live":true,"since":"2026-03-04T00:00:00Z"},"8":{"seats":null,"live":false,"since":"2026-03-05T12:30:00Z"}}"#),
        sent("pandas_timedelta_and_category", "a.csv", "id,delta,kind\na,1 days 02:00:00,gold\n", "delta kind", r#"{"a":{"delta":"1 days 02:00:00","kind":"gold"}}"#),
        sent("spark_part", "part-00000-6f1c.csv", "id,name,since,n\n007,\"Acme, Inc.\",2026-03-04T17:30:00.000Z,1.0E10\n", "name since n", r#"{"007":{"name":"Acme, Inc.","since":"2026-03-04T17:30:00Z","n":"1.0E10"}}"#),
        sent("spark_empty_string", "a.csv", "id,name\n007,\"\"\n", "name", r#"{"007":{"name":null}}"#),
        sent("pg_copy_csv", "a.csv", "id,name,arr,live,since,doc\n007,\"Acme, Inc.\",1234567890123456.78,t,2026-03-04 17:30:00.123456+00,\"{\"\"a\"\": 1.10}\"\n8,,0.10,f,2026-03-04 17:30:00+00,\n",
            "name = \"name\"\narr = { column = \"arr\", as = \"number\" }\nlive = { column = \"live\", as = \"boolean\" }\nsince = \"since\"\ndoc = { column = \"doc\", as = \"json\" }",
            r#"{"007":{"name":"Acme, Inc.","arr":1234567890123456.78,"live":true,"since":"2026-03-04T17:30:00.123456Z","doc":{"a":1.1}},"8":{"name":null,"arr":0.1,"live":false,"since":"2026-03-04T17:30:00Z","doc":null}}"#),
        sent("pg_copy_text", "a.tsv", "id\tname\tn\n007\tAcme\\tLtd\t\\N\n8\tBeta\t5\n", "name = \"name\"\nn = { sql = \"nullif(n, '\\\\N')\", as = \"number\" }", r#"{"007":{"name":"Acme\\tLtd","n":null},"8":{"name":"Beta","n":5}}"#),
        sent("pg_arrays_and_bytes", "a.csv", "id,tags,raw\na,\"{x,y}\",\\x00ff\n", "tags raw", r#"{"a":{"tags":"{x,y}","raw":"\\x00ff"}}"#),
        sent("mysql_outfile", "a.csv", "\"id\",\"name\",\"n\"\n\"007\",\"Acme\",\\N\n", "name n", r#"{"007":{"name":"Acme","n":"\\N"}}"#),
        sent("bigquery", "a.csv", "id,since,big,live\n007,2026-03-04 17:30:00 UTC,12345678901234567890.123456789,true\n", "since = { column = \"since\", as = \"timestamp\" }\nbig = { column = \"big\", as = \"number\" }\nlive = \"live\"",
            r#"{"007":{"since":"2026-03-04T17:30:00Z","big":12345678901234567890.123456789,"live":true}}"#),
        sent("snowflake", "a.csv.gz", super::gzip("\"ID\",\"V\",\"T\"\n\"007\",\"{\"\"a\"\":[1,2]}\",\"2026-03-04 17:30:00.000000000\"\n"), "v = { column = \"V\", as = \"json\" }\nt = \"T\"",
            r#"{"007":{"v":{"a":[1,2]},"t":"2026-03-04T17:30:00Z"}}"#).key("ID"),
        sent("google_sheets", "a.csv", "id,name,share,since\r\n007,Acme,12.5%,3/4/2026\r\n", "name share since", r#"{"007":{"name":"Acme","share":"12.5%","since":"3/4/2026"}}"#),
    ]);
}
