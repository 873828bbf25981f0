-- G2's floor, which nobody can waive: of every recipe, over all and in each domain, so much was written by people. A
-- warning here, so that the gate can say it in a sentence, with all else that is wrong.
{{ config(severity='warn') }}

with shares as (
    select * from {{ ref('mix_shares') }}
),

by_domain as (
    select
        recipe,
        domain,
        sum(case when origin = 'real' then domain_share else 0 end) as real_share
    from shares
    group by recipe, domain
),

overall as (
    select
        recipe,
        'all' as domain,
        sum(case when origin = 'real' then recipe_share else 0 end) as real_share
    from shares
    group by recipe
),

judged as (
    select * from by_domain
    union all
    select * from overall
),

final as (
    select *
    from judged
    where real_share < {{ guard_setting('real_min') }}
)

select * from final
