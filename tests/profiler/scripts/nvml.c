/* A driver library with two devices, by the layouts of nvml.h; what is not here is not found. */
#include <string.h>

#define OK 0
#define NOT_SUPPORTED 3
#define TIMEOUT 10

typedef struct { unsigned number; } device;
typedef struct { unsigned gpu, memory; } utilization;
typedef struct { unsigned long long total, free, used; } memory;
typedef union { double d; int i; unsigned u; unsigned long ul; unsigned long long ull; } value;
typedef struct {
  unsigned field, scope;
  long long timestamp, latency;
  unsigned type, status;
  value value;
} field_value;
typedef struct {
  device *device;
  unsigned long long type, data;
  unsigned gpu_instance, compute_instance;
} event_data;

static device devices[2] = {{0}, {1}};
static int told;

int nvmlInit_v2(void) { return OK; }
int nvmlInitWithFlags(unsigned flags) { return OK; }
int nvmlShutdown(void) { return OK; }
int nvmlDeviceGetCount_v2(unsigned *count) { return *count = 2, OK; }
int nvmlDeviceGetHandleByIndex_v2(unsigned i, device **d) { return *d = &devices[i], OK; }
int nvmlDeviceGetIndex(device *d, unsigned *i) { return *i = d->number, OK; }
int nvmlDeviceGetName(device *d, char *name, unsigned n) { return strncpy(name, "Test", n), OK; }
int nvmlDeviceGetUUID(device *d, char *uuid, unsigned n) {
  return strncpy(uuid, d->number ? "GPU-1" : "GPU-0", n), OK;
}
int nvmlDeviceGetMemoryInfo(device *d, memory *m) {
  m->total = 80ull << 30, m->used = 3ull << 30, m->free = 77ull << 30;
  return OK;
}
int nvmlDeviceGetEnforcedPowerLimit(device *d, unsigned *mw) { return *mw = 700000, OK; }
int nvmlDeviceGetMaxClockInfo(device *d, unsigned clock, unsigned *mhz) {
  return *mhz = clock == 1 ? 1980 : 0, OK;
}
int nvmlDeviceGetClockInfo(device *d, unsigned clock, unsigned *mhz) {
  return *mhz = clock == 1 ? 1755 : clock == 2 ? 3201 : 0, OK;
}
int nvmlDeviceGetUtilizationRates(device *d, utilization *u) {
  if (d->number) return NOT_SUPPORTED;
  return u->gpu = 93, u->memory = 41, OK;
}
int nvmlDeviceGetPowerUsage(device *d, unsigned *mw) { return *mw = 512500, OK; }
int nvmlDeviceGetTemperature(device *d, unsigned sensor, unsigned *c) {
  return *c = sensor ? 0 : 71, OK;
}
int nvmlDeviceGetCurrentClocksThrottleReasons(device *d, unsigned long long *r) {
  return *r = 0x20, OK;
}
int nvmlDeviceGetPcieThroughput(device *d, unsigned counter, unsigned *kib) {
  return *kib = 1000 + counter, OK;
}
int nvmlDeviceGetTotalEccErrors(device *d, unsigned kind, unsigned counter, unsigned long long *n) {
  return *n = kind == 1 && counter == 0 ? 2 : 99, OK;
}
int nvmlDeviceGetFieldValues(device *d, int count, field_value *values) {
  for (int i = 0; i < count; i++) { /* all links by their scope, else the first only */
    values[i].status = d->number ? NOT_SUPPORTED : OK;
    values[i].value.ull = values[i].scope == 0xffffffffu ? values[i].field * 4 : 1;
  }
  return OK;
}
int nvmlEventSetCreate(void **set) { return *set = &told, OK; }
int nvmlDeviceRegisterEvents(device *d, unsigned long long types, void *set) {
  return types == 8 && set == &told ? OK : NOT_SUPPORTED;
}
int nvmlEventSetWait_v2(void *set, event_data *data, unsigned ms) {
  if (told++) return TIMEOUT;
  data->device = &devices[1], data->type = 8, data->data = 79;
  return OK;
}
const char *nvmlErrorString(int error) { return "test"; }
