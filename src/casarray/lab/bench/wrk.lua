-- What the benchmark wants of wrk: its figures as one line of JSON, and a pace for measurements at part of the load.
-- PACE_MS (environment): the mean of a random pause before each request of a connection, in ms; 0 = none.

local pace = tonumber(os.getenv("PACE_MS") or "0")

if pace > 0 then
    function init(_)
        math.randomseed(os.time() + tonumber(os.getenv("SEED") or "0"))
    end
    -- wrk takes the time of a request from after the pause.
    function delay()
        return math.random(1, 2 * pace - 1)
    end
end

function done(summary, latency, _)
    local counts = {}
    for i = 1, #latency do
        local value, count = latency(i)
        counts[#counts + 1] = string.format("[%d,%d]", value, count)
    end
    local e = summary.errors
    io.write(string.format(
        '\nJSON {"requests":%d,"micros":%d,"bytes":%d,"connect":%d,"read":%d,"write":%d,"status":%d,"timeout":%d,"latency":[%s]}\n',
        summary.requests, summary.duration, summary.bytes, e.connect, e.read, e.write, e.status, e.timeout,
        table.concat(counts, ",")))
end
