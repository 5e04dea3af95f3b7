-- What wrk asks for: t/bench/run's load.  Each request asks for a random trace
-- with a random key of its project.
--
--   wrk ... -- size=N traces=N projects=N keys=N [prefix=P] [tags=FILE]
--              [pause=MS]
--
-- tags: a line for each trace, its entity tag, for conditional requests.
-- pause: the mean time that a connection waits before a request.

local threads = 0
local arg = { prefix = "" }
local tags


function setup(thread)
    threads = threads + 1
    thread:set("number", threads)
end


function init(args)
    for _, a in ipairs(args) do
        local name, value = a:match("^(%w+)=(.*)$")
        if name then
            arg[name] = tonumber(value) or value
        end
    end

    if arg.tags then
        tags = {}
        for line in io.lines(arg.tags) do
            tags[#tags + 1] = line
        end
    end

    if arg.pause then
        delay = function()
            return -math.log(1 - math.random()) * arg.pause
        end
    end

    math.randomseed(os.time() * 16 + number)
end


local function uuid(kind, n)
    local s = kind .. "00000000000400080" .. string.format("%.0f", 1e13 + n)

    return s:sub(1, 8) .. "-" .. s:sub(9, 12) .. "-" .. s:sub(13, 16) .. "-"
           .. s:sub(17, 20) .. "-" .. s:sub(21)
end


function request()
    local i = math.random(0, arg.traces - 1)
    local key = i % arg.projects
                + math.random(0, arg.keys - 1) * arg.projects

    return wrk.format("GET", arg.prefix .. "/v1/runs/"
                             .. uuid("b", arg.size * 1000000 + i)
                             .. "/related",
                      { ["Authorization"] = "Bearer " .. uuid("c", key),
                        ["If-None-Match"] = tags and tags[i + 1] })
end


function done(summary, latency, requests)
    local errors = summary.errors

    io.write(string.format(
        "rps=%.2f p50=%.3f p99=%.3f all=%d bytes=%.0f refused=%d wrong=%d\n",
        summary.requests / summary.duration * 1e6,
        latency:percentile(50) / 1e3, latency:percentile(99) / 1e3,
        summary.requests, summary.bytes / math.max(summary.requests, 1),
        errors.status, errors.connect + errors.read + errors.write
                       + errors.timeout))
end
