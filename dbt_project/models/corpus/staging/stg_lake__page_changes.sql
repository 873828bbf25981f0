-- What was redacted, repaired and measured in each page's text; null for what the corpus does not ask for.
with source as (
    select * from {{ source('lake', 'pages') }}
),

final as (
    select
        page_id,
        repaired,
        pii_email,
        pii_phone,
        pii_ip,
        {%- for kind in ['iban', 'card', 'national_id', 'secret'] %}
        {{ asked_for('pii_' ~ kind, 'cast(null as integer)') }} as pii_{{ kind }},
        {%- endfor %}
        {{ asked_for('paragraph_languages', no_paragraph_languages()) }} as paragraph_languages
    from source
)

select * from final
