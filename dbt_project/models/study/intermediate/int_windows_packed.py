"""How many training windows a stream fills where its megadocs are kept whole: no SQL fits pieces into windows."""


def model(dbt, session):
    import pyarrow as pa

    from palimpsest.packing import pack

    streams = dbt.ref("int_streams_measured").filter("megadoc_tokens is not null")
    columns = "recipe, layout, context, packing, megadoc_tokens"
    rows = [
        {"recipe": recipe, "layout": layout, "windows": len(pack(tokens, context, packing))}
        for recipe, layout, context, packing, tokens in streams.project(columns).fetchall()
    ]
    schema = [("recipe", pa.string()), ("layout", pa.string()), ("windows", pa.int64())]
    return pa.Table.from_pylist(rows, pa.schema(schema))
