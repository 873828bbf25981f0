with pages as (
    select * from {{ ref('int_pages_trimmed') }}
),

final as (
    {%- for rule in page_rules() %}
    select
        page_id,
        {{ loop.index }} as rule_number,
        {{ quoted(rule.name) }} as rule,
        {{ quoted(rule.reason) }} as reason,
        cast({{ rule.value }} as double) as value,
        cast({{ rule.threshold }} as double) as threshold,
        {{ rule.value }} {{ '<' if rule.bound == 'min' else '>' }} {{ rule.threshold }} as failed
    from pages
    {{ 'union all' if not loop.last }}
    {%- else %}
    select
        page_id,
        0 as rule_number,
        '' as rule,
        '' as reason,
        cast(0 as double) as value,
        cast(0 as double) as threshold,
        false as failed
    from pages
    where false
    {%- endfor %}
)

select * from final
