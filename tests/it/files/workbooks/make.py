"""Writes the workbooks beside it, each with another program's library: openpyxl, XlsxWriter, xlwt (Excel 97) and odfpy.

Needs: pip install openpyxl XlsxWriter xlwt odfpy pandas
"""

import datetime as dt
import pathlib

import openpyxl
import pandas
import xlsxwriter
import xlwt

HERE = pathlib.Path(__file__).parent
HEADER = ["id", "name", "seats", "mrr", "active", "since", "seen", "code", "note"]
ROWS = [
    ["a1", "Acme", 3, 12.5, True, dt.date(2026, 3, 4), dt.datetime(2026, 3, 4, 10, 20, 30), "007", None],
    ["b2", "Bäcker 日本", 12345678901, 0.1, False, dt.date(1999, 12, 31), dt.datetime(2026, 3, 5), "042", "x\ny"],
    ["c3", None, None, None, None, None, None, None, None],
    [4711, "Number as key", -1, 1e21, True, dt.date(2030, 1, 1), dt.datetime(2026, 1, 2, 3, 4, 5, 250000), "1e5", "=1+1"],
]

# openpyxl, with a title above the table on the second sheet, and hidden things.
book = openpyxl.Workbook()
sheet = book.active
sheet.title = "Accounts"
sheet.append(HEADER)
for row in ROWS:
    sheet.append(row)
sheet["I5"].data_type = "s"
other = book.create_sheet("With title")
other.append(["Accounts as of today"])
other.append([])
other.append([None, "id", "name"])
other.append([None, "z", "Zeta"])
other.append([None, None, None])
other.append([None, "y", "Ypsilon"])
book.save(HERE / "openpyxl.xlsx")

# XlsxWriter: dates as formats, a formula with a value, an error, a time, a stray value beside the table.
book = xlsxwriter.Workbook(str(HERE / "xlsxwriter.xlsx"))
sheet = book.add_worksheet("Sheet1")
day = book.add_format({"num_format": "dd.mm.yyyy"})
time = book.add_format({"num_format": "[h]:mm:ss"})
money = book.add_format({"num_format": "#,##0.00 €"})
sheet.write_row(0, 0, ["id", "since", "spent", "price", "sum", "bad"])
sheet.write_row(1, 0, ["a"])
sheet.write_datetime(1, 1, dt.datetime(2026, 3, 4), day)
sheet.write_datetime(1, 2, dt.timedelta(hours=36, minutes=5), time)
sheet.write_number(1, 3, 1234.5, money)
sheet.write_formula(1, 4, "=1+2", None, 3)
sheet.write_formula(1, 5, "=1/0", None, "#DIV/0!")
stray = book.add_worksheet("Stray")
stray.write_row(0, 0, ["id", "name"])
stray.write_row(1, 0, ["a", "Acme", None, "what is this?"])
book.close()

# Excel 97 to 2003.
book = xlwt.Workbook()
sheet = book.add_sheet("Accounts")
day = xlwt.easyxf(num_format_str="yyyy-mm-dd")
for row, values in enumerate([["id", "name", "seats", "since"], ["a", "Acme", 3, dt.date(2026, 3, 4)], ["b", "Beta", 0.5, None]]):
    for column, value in enumerate(values):
        if value is not None:
            sheet.write(row, column, value, day) if isinstance(value, dt.date) else sheet.write(row, column, value)
book.save(str(HERE / "xlwt.xls"))

# LibreOffice's format.
frame = pandas.DataFrame({"id": ["a", "b"], "seats": [3, 4], "since": [dt.date(2026, 3, 4), dt.date(2026, 3, 5)]})
frame.to_excel(HERE / "odf.ods", engine="odf", index=False)
