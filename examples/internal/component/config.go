package component

import (
	"fmt"
	"math"
	"net"
	"os"
	"strconv"
	"time"
)

// Role is what a program of the pipeline does.
type Role string

// The programs of the pipeline.
const (
	RoleControlPlane Role = "control-plane"
	RoleSource       Role = "stellar-arrow-source"
	RoleProcessor    Role = "ttp-arrow-processor"
	RoleSink         Role = "arrow-analytics-sink"
)

// Roles lists the programs in the order in which they start; they stop in the
// opposite one.
var Roles = []Role{RoleControlPlane, RoleSource, RoleProcessor, RoleSink}

// Default ports of each role: Flight (gRPC for the control plane) and HTTP.
var defaultPorts = map[Role][2]int{
	RoleControlPlane: {8080, 8087},
	RoleSource:       {8815, 8088},
	RoleProcessor:    {8816, 8089},
	RoleSink:         {8817, 8090},
}

// DefaultPorts returns the role's gRPC port and its HTTP port.
func (r Role) DefaultPorts() (grpc, http int) { return defaultPorts[r][0], defaultPorts[r][1] }

// Config is what every component reads from its environment.
type Config struct {
	Role Role
	ID   string // FLOWCTL_COMPONENT_ID

	Flowctl           bool   // ENABLE_FLOWCTL
	FlowctlEndpoint   string // host:port of the control plane
	HeartbeatInterval time.Duration

	Pool PoolConfig

	// The thresholds decide where this component runs alone; with a control
	// plane, the control plane's decide.
	BackpressureThreshold, RecoveryThreshold float64

	MonitoringInterval time.Duration

	Host                   string // the address to listen on
	Advertise              string // the host that others are told to dial
	FlightPort, HealthPort int

	// The stage's limit: what it may have read and not yet handed on.
	MaxMessages, MaxBytes int64

	// DrainGrace bounds how long open streams may go on after a program was asked
	// to end. What they did not get, their readers ask for again elsewhere.
	DrainGrace time.Duration

	LogLevel, LogFormat string

	Security Security
	Secrets  *Redactor // of everything that was read; nil knows none
}

// PoolConfig is the part of the configuration that belongs to connection pools.
type PoolConfig struct {
	Max, Min            int
	IdleTimeout         time.Duration
	HealthCheckInterval time.Duration
	LoadBalancing       bool
}

// ReadConfig reads the variables that every program of the role knows. What it
// rejects is in e.Err. The control plane has neither a stage, nor pools, nor a
// control plane above it.
func ReadConfig(e *Env, role Role) Config {
	grpcPort, httpPort := role.DefaultPorts()
	c := Config{
		Role: role,
		ID:   string(role),
		BackpressureThreshold: e.Share("FLOW_CONTROL_BACKPRESSURE_THRESHOLD", 0.8,
			"load at which backpressure starts; with a control plane, its own counts"),
		RecoveryThreshold: e.Share("FLOW_CONTROL_RECOVERY_THRESHOLD", 0.6, "load at which it ends"),
		MonitoringInterval: e.Duration("MONITORING_INTERVAL", 5*time.Second, 10*time.Millisecond,
			"how often figures are collected"),
		Host: e.String("LISTEN_HOST", "localhost", "address to listen on; 0.0.0.0 for every interface"),
		FlightPort: e.Port("FLIGHT_PORT", grpcPort,
			"port of the Flight server, or of the control plane's services"),
		HealthPort: e.Port("HEALTH_PORT", httpPort, "port of /metrics, /livez, /readyz, /health, /status"),
		DrainGrace: e.Duration("DRAIN_GRACE", 10*time.Second, 0,
			"how long open streams may go on after SIGTERM, before they are cut off"),
		LogLevel:  e.OneOf("LOG_LEVEL", "info", "least level that is logged", "debug", "info", "warn", "error"),
		LogFormat: e.OneOf("LOG_FORMAT", "text", "how log lines are written", "text", "json"),
		Secrets:   e.Redactor(),
	}
	c.Security = ReadSecurity(e, c.Host)
	c.Advertise = e.String("ADVERTISE_HOST", advertised(c.Host),
		"host that other components are told to dial; unset: LISTEN_HOST, or this machine's name")
	if c.RecoveryThreshold >= c.BackpressureThreshold {
		e.Reject("FLOW_CONTROL_RECOVERY_THRESHOLD", fmt.Sprint(c.RecoveryThreshold),
			fmt.Sprintf("less than FLOW_CONTROL_BACKPRESSURE_THRESHOLD, which is %v", c.BackpressureThreshold))
	}
	if role != RoleControlPlane {
		c.readComponent(e)
	}
	return c
}

func (c *Config) readComponent(e *Env) {
	c.ID = e.String("FLOWCTL_COMPONENT_ID", c.ID,
		"id under which this component registers and reports; with mutual TLS a name in its certificate")
	c.Flowctl = e.Bool("ENABLE_FLOWCTL", false, "register with the control plane and follow its signals")
	c.FlowctlEndpoint = e.Endpoint("FLOWCTL_ENDPOINT", "localhost:8080", "the control plane")
	c.HeartbeatInterval = e.Duration("FLOWCTL_HEARTBEAT_INTERVAL", 10*time.Second, 100*time.Millisecond,
		"liveness towards the control plane; load is sent as it moves")
	c.Pool = PoolConfig{
		Max: e.Int("CONNECTION_POOL_MAX_CONNECTIONS", 10, 1, 1000, "most connections to one endpoint"),
		Min: e.Int("CONNECTION_POOL_MIN_CONNECTIONS", 2, 1, 1000, "connections kept to one endpoint"),
		IdleTimeout: e.Duration("CONNECTION_POOL_IDLE_TIMEOUT", 5*time.Minute, time.Second,
			"close idle connections above the minimum after this"),
		HealthCheckInterval: e.Duration("CONNECTION_POOL_HEALTH_CHECK_INTERVAL", 30*time.Second, 100*time.Millisecond,
			"check connections this often"),
		LoadBalancing: e.Bool("CONNECTION_POOL_LOAD_BALANCING", true, "spread calls over healthy connections"),
	}
	c.MaxMessages = int64(e.Int("STAGE_MAX_BATCHES", 64, 2, 1<<20, "batches read and not yet handed on"))
	c.MaxBytes = int64(e.Int("STAGE_MAX_BYTES", 64<<20, 1<<20, math.MaxInt, "bytes read and not yet handed on"))
	if c.Flowctl {
		e.permits(c.Security, "FLOWCTL_ENDPOINT", c.FlowctlEndpoint)
	}
	if c.Pool.Min > c.Pool.Max {
		e.Reject("CONNECTION_POOL_MIN_CONNECTIONS", strconv.Itoa(c.Pool.Min),
			fmt.Sprintf("at most CONNECTION_POOL_MAX_CONNECTIONS, which is %d", c.Pool.Max))
	}
}

// advertised is the host that others can dial when we listen on host: a
// wildcard address means this machine's name.
func advertised(host string) string {
	if ip := net.ParseIP(host); ip == nil || !ip.IsUnspecified() {
		return host
	}
	name, err := os.Hostname()
	if err != nil {
		return host
	}
	return name
}
