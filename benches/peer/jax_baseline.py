#!/usr/bin/env python3
"""The model of the ListOps, psMNIST and Image recipes in JAX (pip install jax numpy torch), one jitted training step and inference: a peer beside torch_baseline.py.
 usage: jax_baseline.py listops 32 | psmnist 64 | cifar 4 (task, batch); threads by taskset. No dropout, no padding; the rest as there."""
import sys,time,os,statistics as st
sys.path.insert(0,os.path.dirname(os.path.abspath(__file__)))
import numpy as np, jax, jax.numpy as jnp
import torch_baseline as tb
task=sys.argv[1]; B=int(sys.argv[2])
c=tb.TASKS[task]; H,N,L,layers=c['H'],c['N'],c['L'],c['layers']; M=N//2
key=jax.random.PRNGKey(0)
lam,P,Bc=tb.legs_dplr(N); ri=lambda a:np.stack([a.real,a.imag],-1).astype(np.float32)
rng=np.random.default_rng(0)
def ssm():
    dt=np.exp(rng.random((H,1))*(np.log(.1)-np.log(.001))+np.log(.001))
    return dict(inv_dt=np.log(np.expm1(dt)).astype(np.float32),A_re=np.full((1,M),np.log(.5),np.float32),A_im=(-lam.imag)[None].astype(np.float32),B=ri(Bc)[None],P=ri(P)[None],C=rng.standard_normal((2,H,M,2)).astype(np.float32)*.7,D=rng.standard_normal(H).astype(np.float32))
def block():
    z=lambda v:np.full(H,v,np.float32); k=2*H if c['bi'] else H
    d=dict(ia=z(1),ib=z(0),oa=z(1),ob=z(0),i2a=z(1),i2b=z(0),fwd=ssm(),W=((rng.random((H,k))*2-1)/np.sqrt(k)).astype(np.float32),b=z(0),g=z(1),be=z(0))
    if c['bi']: d['rev']=ssm()
    return d
params=dict(enc=rng.standard_normal((c.get('vocab') or 1,H)).astype(np.float32),blocks=[block() for _ in range(layers)],dec=(rng.standard_normal((c['out'],H))*.05).astype(np.float32),db=np.zeros(c['out'],np.float32))
w=np.exp(-2j*np.pi/L*np.arange(L//2+1)); aw=jnp.asarray((1-w).astype(np.complex64)); sw=jnp.asarray(((1+w)/2).astype(np.complex64))
cx=lambda t:jax.lax.complex(t[...,0],t[...,1])
def kern(p):
    dt=jax.nn.softplus(p['inv_dt']); A=-jnp.exp(p['A_re'])-1j*p['A_im']; Bm,Pm,C=cx(p['B']),cx(p['P']),cx(p['C'])
    Bp=jnp.stack([Bm,Pm],0)*jnp.ones((1,H,1)); Cq=jnp.concatenate([C,jnp.conj(Pm)[None]*jnp.ones((1,H,1))],0)
    v=Bp[:,None]*Cq[None]*dt; dtA=dt*A; D=jnp.concatenate([dtA,jnp.conj(dtA)],-1); vv=jnp.concatenate([v,jnp.conj(v)],-1)
    G=1/(aw-D[...,None]*sw)
    R=jnp.einsum('abhm,hmj->abhj',vv,G)
    k=R[0,:-1]-R[1,:-1]*(R[0,-1]*sw/(1+sw*R[1,-1]))
    return jnp.fft.irfft(k,n=L)
@jax.custom_vjp
def spike(y,u): return (y>u).astype(y.dtype)
spike.defvjp(lambda y,u:(spike(y,u),((y>=0)&(y<=1))),lambda m,g:(g*m,None))
def conv(p,s):
    k=kern(p); n=2*L
    kk=jnp.pad(k[0],((0,0),(0,L)))+jnp.pad(k[1][...,::-1],((0,0),(L,0)))
    y=jnp.fft.irfft(jnp.fft.rfft(s,n=n)*jnp.fft.rfft(kk,n=n),n=n)[...,:L]+s*p['D'][:,None]
    return jax.nn.gelu(y,approximate=False)
e=lambda v:v[:,None]
over=(0,2) if c['norm']=='batch' else (1,)
def bn(x,g,b): m=x.mean(over,keepdims=True); v=x.var(over,keepdims=True); return (x-m)*jax.lax.rsqrt(v+1e-5)*e(g)+e(b)
def fwd(p,x,key):
    h=p['enc'][x].transpose(0,2,1) if c.get('vocab') else (x[...,None]*p['enc'][0]).transpose(0,2,1)
    for i,b in enumerate(p['blocks']):
        k1,k2,key=jax.random.split(key,3); u1=jax.random.uniform(k1,h.shape); u2=jax.random.uniform(k2,h.shape)
        a=e(b['ia'])*h+e(b['ib'])
        if c['prenorm']: a=bn(a,b['g'],b['be'])
        f=conv(b['fwd'],spike(a,u1))*e(b['oa'])+e(b['ob'])
        if c['bi']:
            r=conv(b['rev'],spike(e(b['i2a'])*h+e(b['i2b']),u2)); z=jnp.concatenate([spike(f,u1),spike(r,u1)],1)
        else: z=spike(f,u2)
        y=jax.nn.gelu(jnp.einsum('ok,bkl->bol',b['W'],z)+e(b['b']),approximate=False)
        o=h+y if c['res'] else y
        h=o if c['prenorm'] else bn(o,b['g'],b['be'])
    return h.mean(2)@p['dec'].T+p['db']
def loss(p,x,y,key): l=fwd(p,x,key); return -jnp.take_along_axis(jax.nn.log_softmax(l),y[:,None],1).mean()
@jax.jit
def step(p,m,v,x,y,key,t):
    l,g=jax.value_and_grad(loss)(p,x,y,key)
    m=jax.tree.map(lambda m,g:.9*m+.1*g,m,g); v=jax.tree.map(lambda v,g:.999*v+.001*g*g,v,g)
    p=jax.tree.map(lambda p,m,v:p-1e-3*(m/(1-.9**t))/(jnp.sqrt(v/(1-.999**t))+1e-8),p,m,v); return p,m,v,l
infer=jax.jit(fwd)
p=jax.tree.map(jnp.asarray,params); m=jax.tree.map(jnp.zeros_like,p); v=m
x=jnp.asarray(rng.integers(2,18,(B,L))) if c.get('vocab') else jnp.asarray(rng.random((B,L)),jnp.float32); y=jnp.asarray(rng.integers(0,c['out'],B))
t=time.time(); p,m,v,l=step(p,m,v,x,y,key,1.); l.block_until_ready(); print('compile+first',time.time()-t,float(l),flush=True)
ts=[]
for i in range(5):
    t=time.time(); p,m,v,l=step(p,m,v,x,y,jax.random.fold_in(key,i),i+2.); l.block_until_ready(); ts.append(time.time()-t)
infer(p,x,key).block_until_ready(); it=[]
for i in range(5):
    t=time.time(); infer(p,x,key).block_until_ready(); it.append(time.time()-t)
import resource
print(task,'jax jit: train',st.median(ts),'infer',st.median(it),'rss GB',resource.getrusage(resource.RUSAGE_SELF).ru_maxrss/1e6,'loss',float(l))
