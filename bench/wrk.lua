-- Sends bodies that are each their own: a template with a serial number in the middle.
-- Arguments after `--`: the file of the templates, then the first serial number.
local requests, serial = {}, 0
local count = 0

function setup(thread)
  thread:set("number", count)
  count = count + 1
end

function init(arguments)
  local file = io.open(arguments[1], "rb")
  while true do
    local sizes = file:read("*l")
    if not sizes then break end
    local before, after = sizes:match("(%d+) (%d+)")
    requests[#requests + 1] = { file:read(tonumber(before)), file:read(tonumber(after)) }
    file:read(1)
  end
  file:close()
  serial = tonumber(arguments[2]) + number * 100000000
end

function request()
  serial = serial + 1
  local template = requests[serial % #requests + 1]
  return template[1] .. string.format("%012.0f", serial) .. template[2]
end

function done(summary, latency)
  local errors = summary.errors
  io.write(string.format(
    'RESULT {"requests": %d, "microseconds": %d, "refused": %d, "broken": %d, "p50": %f, "p95": %f, "p99": %f}\n',
    summary.requests, summary.duration, errors.status, errors.connect + errors.read + errors.write + errors.timeout,
    latency:percentile(50) / 1000, latency:percentile(95) / 1000, latency:percentile(99) / 1000))
end
