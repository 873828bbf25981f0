-- Over the intervals of a study: each figure of its generated texts, how far it lies from real text in deviations of
-- real text, and how far it moved since the interval before. It drifts beyond as many deviations as G9 allows.
with measures as (
    select * from {{ ref('stg_guard__measures') }}
),

newest as (
    select
        *,
        row_number() over (
            partition by strategy, generator, metric, data_until
            order by version_number desc
        ) as age
    from measures
),

compared as (
    select
        strategy,
        generator,
        metric,
        data_until,
        version,
        value,
        real_mean,
        real_sd,
        (value - real_mean) / nullif(real_sd, 0) as deviations,
        lag(value) over (partition by strategy, metric order by data_until, generator) as value_before,
        lag(generator) over (partition by strategy, metric order by data_until, generator) as generator_before
    from newest
    where age = 1
),

final as (
    select
        strategy,
        generator,
        metric,
        data_until,
        version,
        value,
        real_mean,
        real_sd,
        deviations,
        value_before,
        (value - value_before) / nullif(real_sd, 0) as moved,
        generator_before != generator as is_other_generator,
        coalesce(abs((value - value_before) / nullif(real_sd, 0)) > {{ guard_setting('drift_max') }}, false) as drifts
    from compared
    order by strategy, metric, data_until, generator
)

select * from final
